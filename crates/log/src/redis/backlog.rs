//! Backlog: the number of events and entries that are appended and not acknowledged.

use std::sync::LazyLock;
use std::time::Duration;

use super::connect::Link;
use super::error::Fault;
use super::keys::{GROUP, StreamKeys};
use super::pressure::outstanding;
use super::script::Script;
use crate::Backlog;

static BACKLOG: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("backlog.lua")));

type Answer = (Option<u64>, Option<u64>, u64, Option<u64>, u64, Option<u64>);

pub(super) async fn backlog(link: &Link, streams: &[StreamKeys]) -> Result<Backlog, Fault> {
    let mut sum = Backlog { events: Some(0), lag: Some(0), ..Backlog::default() };
    for keys in streams {
        let mut call = BACKLOG.call(&[&keys.stream, &keys.counts]);
        let answer: Answer = BACKLOG.run(link, call.arg(GROUP)).await?;
        let (appended, acknowledged, length, lag, pending, age) = answer;
        let events = outstanding(appended, acknowledged, length);
        sum.events = sum.events.zip(events).map(|(sum, events)| sum + events);
        sum.lag = sum.lag.zip(lag).map(|(sum, lag)| sum + lag);
        sum.pending += pending;
        sum.oldest = sum.oldest.max(age.map(Duration::from_millis));
    }
    Ok(sum)
}
