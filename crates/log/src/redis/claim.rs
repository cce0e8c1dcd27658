//! Claim: takes over entries that another consumer left pending for too long (XAUTOCLAIM).

use std::time::Duration;

use redis::Value;

use super::connect::Link;
use super::error::{Fault, unexpected};
use super::keys::{GROUP, StreamKeys};
use super::reply;
use crate::Claimed;

/// The position in the round over the pending entries of all streams.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    stream: u16,
    id: String,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { stream: 0, id: "0-0".into() }
    }
}

/// Continues from `cursor` until `entries` are claimed or the round is complete, reading each
/// stream at most once.
pub(super) async fn claim(
    link: &Link,
    streams: &[StreamKeys],
    consumer: &str,
    cursor: &mut Cursor,
    idle: Duration,
    entries: usize,
) -> Result<Claimed, Fault> {
    let mut claimed = Claimed::default();
    while claimed.entries.len() < entries {
        let Some(keys) = streams.get(usize::from(cursor.stream)) else { break };
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(&keys.stream).arg(GROUP).arg(consumer).arg(idle.as_millis() as u64).arg(&cursor.id);
        command.arg("COUNT").arg(entries - claimed.entries.len());
        let mut answer = reply::list(link.query(&command).await?)?.into_iter();
        let (Some(next), Some(found)) = (answer.next(), answer.next()) else {
            return Err(unexpected("XAUTOCLAIM").into());
        };
        cursor.id = reply::text(&next)?.to_owned();
        for found in reply::entries_of(found, keys.number)? {
            match found.entry {
                Some(entry) => claimed.entries.push(entry),
                None => claimed.lost.push(found.position),
            }
        }
        let deleted = answer.next().unwrap_or(Value::Array(Vec::new()));
        claimed.lost.extend(reply::positions(deleted, keys.number)?);
        if cursor.id != "0-0" {
            break;
        }
        cursor.stream += 1;
    }
    if usize::from(cursor.stream) >= streams.len() {
        *cursor = Cursor::default();
        claimed.complete = true;
    }
    crate::metrics::entries_lost(&claimed.lost);
    Ok(claimed)
}
