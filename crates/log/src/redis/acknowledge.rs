//! Acknowledge: one script per stream runs XACK and raises the counter, all streams in one round trip.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use futures::future::try_join_all;

use super::connect::Link;
use super::error::Fault;
use super::keys::{GROUP, Prefix, StreamKeys};
use super::reply;
use super::script::Script;
use crate::Position;
use crate::replay::CommitMark;

static ACKNOWLEDGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("acknowledge.lua")));

/// Acknowledges entries with their numbers of events; returns how many were still pending. `mark` is the last of the
/// commits that stored them.
pub(super) async fn acknowledge(
    link: &Link,
    prefix: &Prefix,
    done: &[(Position, u64)],
    mark: Option<&CommitMark>,
) -> Result<u64, Fault> {
    let mut by_stream: BTreeMap<u16, Vec<&(Position, u64)>> = BTreeMap::new();
    for entry in done {
        by_stream.entry(entry.0.stream).or_default().push(entry);
    }
    let (worker, number) = mark.map_or(("", 0), |mark| (&mark.worker, mark.number));
    let calls = by_stream.into_iter().map(|(stream, entries)| async move {
        let keys = StreamKeys::new(prefix, stream);
        let mut call = ACKNOWLEDGE.call(&[&keys.stream, &keys.counts, &keys.marks]);
        call.arg(GROUP).arg(worker).arg(number);
        for (position, events) in entries {
            call.arg(reply::id(position)).arg(events);
        }
        ACKNOWLEDGE.run::<u64>(link, &call).await
    });
    Ok(try_join_all(calls).await?.into_iter().sum())
}
