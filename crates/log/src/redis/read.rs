//! Read: a consumer's own pending entries, and entries never delivered.

use std::time::Duration;

use super::connect::Link;
use super::error::Fault;
use super::keys::StreamKeys;
use super::node::Request;
use super::read_command::{delivered, read_group, read_new};
use super::read_each;
use super::reply::{self, Found};
use crate::{Delivered, Position};

/// Reads about `entries` new entries at most, and waits up to `wait` for the first.
pub(super) async fn new(
    link: &Link,
    streams: &[StreamKeys],
    consumer: &str,
    entries: usize,
    wait: Duration,
) -> Result<Vec<Delivered>, Fault> {
    if link.is_cluster() {
        return read_each::new(link, streams, consumer, entries, wait).await;
    }
    let Some(first) = streams.first() else { return Ok(Vec::new()) };
    // COUNT is per stream.
    let command = read_new(streams, consumer, entries.div_ceil(streams.len()), wait);
    let mut session = link.session(first).await?;
    let answer = session.send(&Request::Command(&command), wait).await?;
    session.end();
    Ok(delivered(answer, streams)?)
}

/// Reads up to `entries` of the consumer's own pending entries after `after`.
pub(super) async fn own_pending(
    link: &Link,
    streams: &[StreamKeys],
    consumer: &str,
    after: Option<Position>,
    entries: usize,
) -> Result<Vec<Delivered>, Fault> {
    let first = after.map_or(0, |position| position.stream);
    let mut read = Vec::new();
    for keys in streams.iter().filter(|keys| keys.number >= first) {
        let mut cursor = after.filter(|position| position.stream == keys.number);
        while read.len() < entries {
            let found = page(link, keys, consumer, cursor, entries - read.len()).await?;
            let Some(last) = found.last() else { break };
            cursor = Some(last.position);
            for found in found {
                match found.entry {
                    Some(entry) => read.push(entry),
                    None => crate::metrics::entries_lost(&[found.position]),
                }
            }
        }
    }
    Ok(read)
}

async fn page(
    link: &Link,
    keys: &StreamKeys,
    consumer: &str,
    after: Option<Position>,
    entries: usize,
) -> Result<Vec<Found>, Fault> {
    let mut command = read_group(consumer, entries);
    let cursor = after.map_or_else(|| "0".to_owned(), |position| reply::id(&position));
    command.arg("STREAMS").arg(&keys.stream).arg(cursor);
    Ok(reply::by_stream(link.query(&command).await?, std::slice::from_ref(keys))?)
}

/// Resets the idle time of this consumer. Before Redis 7.2 a read that finds nothing does not reset it,
/// and an idle replica would be taken for one that has stopped.
pub(super) async fn touch(link: &Link, streams: &[StreamKeys], consumer: &str) -> Result<(), Fault> {
    for keys in streams {
        let mut command = read_group(consumer, 1);
        // Reads own pending entries after an id that is never reached, so none. (The highest possible id
        // cannot be used: the server reads it as `>`.)
        command.arg("STREAMS").arg(&keys.stream).arg(format!("{}-0", u64::MAX));
        link.query::<redis::Value>(&command).await?;
    }
    Ok(())
}
