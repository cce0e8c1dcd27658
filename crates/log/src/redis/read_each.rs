//! Reads new entries from a cluster: each stream by a command of its own, because a command has keys of one slot only.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, join_all, select};
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::timeout;

use super::connect::Link;
use super::error::Fault;
use super::keys::StreamKeys;
use super::node::{Node, Request};
use super::read_command::{delivered, read_new};
use crate::Delivered;

/// How long the answer to a read that was ended may take before it is ended again.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(10);

/// Reads about `entries` new entries at most, and waits up to `wait` for the first.
///
/// When no stream has any, a read of each one waits. The first one that ends with entries ends the others: they are told
/// so by their servers, and not cancelled, because entries that were just delivered to them would be left pending. An
/// error is returned only when nothing was read: a node that is away does not hold up the streams on the others.
pub(super) async fn new(
    link: &Link,
    streams: &[StreamKeys],
    consumer: &str,
    entries: usize,
    wait: Duration,
) -> Result<Vec<Delivered>, Fault> {
    let count = entries.div_ceil(streams.len().max(1));
    let at_once = join_all(streams.iter().map(|keys| async move {
        let keys = slice::from_ref(keys);
        let answer = link.query(&read_new(keys, consumer, count, Duration::ZERO)).await?;
        Ok::<_, Fault>(delivered(answer, keys)?)
    }));
    let mut read = Read::default();
    at_once.await.into_iter().for_each(|outcome| read.add(outcome));
    // A group that is missing is made first. A node that is away is waited for together with the others.
    if wait.is_zero() || !read.entries.is_empty() || matches!(read.error, Some(Fault::NoGroup(_))) {
        return read.finish();
    }
    read.error = None;
    let (end, ended) = watch::channel(false);
    let mut waiting: FuturesUnordered<_> =
        streams.iter().map(|keys| one(link, keys, consumer, count, wait, ended.clone())).collect();
    while let Some(outcome) = waiting.next().await {
        let is_last =
            matches!(&outcome, Ok(entries) if !entries.is_empty()) || matches!(outcome, Err(Fault::NoGroup(_)));
        read.add(outcome);
        if is_last {
            end.send_replace(true);
        }
    }
    read.finish()
}

#[derive(Default)]
struct Read {
    entries: Vec<Delivered>,
    error: Option<Fault>,
}

impl Read {
    fn add(&mut self, outcome: Result<Vec<Delivered>, Fault>) {
        match outcome {
            Ok(entries) => self.entries.extend(entries),
            // A missing group is what the caller can repair.
            Err(fault @ Fault::NoGroup(_)) => self.error = Some(fault),
            Err(fault) => drop(self.error.get_or_insert(fault)),
        }
    }

    fn finish(self) -> Result<Vec<Delivered>, Fault> {
        match self.error {
            Some(fault) if self.entries.is_empty() => Err(fault),
            _ => Ok(self.entries),
        }
    }
}

/// Waits for entries of one stream, until the time is over or all reads have to end.
async fn one(
    link: &Link,
    keys: &StreamKeys,
    consumer: &str,
    count: usize,
    wait: Duration,
    mut ended: watch::Receiver<bool>,
) -> Result<Vec<Delivered>, Fault> {
    let keys = slice::from_ref(keys);
    let mut session = link.session(&keys[0]).await?;
    let id = session.session.id().await?;
    let node = session.session.node().clone();
    let command = read_new(keys, consumer, count, wait);
    let request = Request::Command(&command);
    let answer = {
        let reading = Box::pin(session.send(&request, wait));
        let ended = Box::pin(async move { drop(ended.wait_for(|ended| *ended).await) });
        match select(reading, ended).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), mut reading)) => loop {
                // More than once, because the read may not have arrived yet. If it is refused, the read ends with its
                // time.
                unblock(&node, id).await;
                if let Ok(answer) = timeout(UNBLOCK_AGAIN, &mut reading).await {
                    break answer;
                }
            },
        }
    };
    let entries = delivered(answer?, keys)?;
    session.end();
    Ok(entries)
}

/// Makes a server answer a read that waits, as if its time were over.
async fn unblock(node: &Arc<Node>, id: i64) {
    let command = redis::cmd("CLIENT").arg("UNBLOCK").arg(id).to_owned();
    if let Err(failure) = node.send(&Request::Command(&command)).await {
        tracing::debug!(?failure, "cannot end a read that waits");
    }
}
