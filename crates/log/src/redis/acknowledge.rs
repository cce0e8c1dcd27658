//! Acknowledge: one script per stream runs XACK and raises the counter, all streams in one round trip.
//!
//! The script returns the number of the commit that it had noted before. A lower one than this process knows means that
//! the log has lost what it had confirmed: after a failover, or because a backup was restored.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use futures::future::try_join_all;
use sluice_service::durability::Durability;

use super::connect::Link;
use super::error::Fault;
use super::keys::{GROUP, Prefix, StreamKeys};
use super::reply;
use super::script::Script;
use crate::Position;
use crate::replay::CommitMark;

static ACKNOWLEDGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("acknowledge.lua")));

/// The number of the last commit of each worker that a stream has noted.
#[derive(Debug, Default)]
pub(super) struct LastNoted(Mutex<HashMap<(u16, String), u64>>);

impl LastNoted {
    /// Compares what a stream had noted before a mark with what it had confirmed, and reports a difference.
    fn check(&self, stream: u16, mark: &CommitMark, before: u64, durability: &Durability) {
        let confirmed = {
            let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let confirmed = noted.entry((stream, mark.worker.clone())).or_default();
            std::mem::replace(confirmed, mark.number.max(before))
        };
        if before >= confirmed {
            return;
        }
        let loss = format!(
            "Redis has lost acknowledgements of stream {stream} that it had confirmed, from commit {before} up to commit \
             {confirmed} of {}: entries that were appended in that time may be lost too",
            mark.worker
        );
        tracing::error!(loss, "events that were answered with 202 may be lost");
        crate::metrics::loss_found();
        durability.report_loss(loss);
    }
}

/// Acknowledges entries with their numbers of events; returns how many were still pending. `mark` is the last of the
/// commits that stored them.
pub(super) async fn acknowledge(
    link: &Link,
    prefix: &Prefix,
    done: &[(Position, u64)],
    mark: Option<&CommitMark>,
    noted: &LastNoted,
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
        let (pending, before): (u64, u64) = ACKNOWLEDGE.run(link, &call).await?;
        if let Some(mark) = mark {
            noted.check(stream, mark, before, link.durability());
        }
        Ok::<_, Fault>(pending)
    });
    Ok(try_join_all(calls).await?.into_iter().sum())
}
