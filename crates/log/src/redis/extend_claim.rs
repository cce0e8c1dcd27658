//! Extend claim: resets the idle time of entries in flight, so that no other consumer claims them; and
//! the number of deliveries of an entry.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use redis::{Value, from_redis_value};

use super::connect::Link;
use super::error::{Fault, unexpected};
use super::keys::{GROUP, Prefix, StreamKeys};
use super::reply;
use super::script::Script;
use crate::{LogError, Position};

static EXTEND_CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("extend_claim.lua")));

/// Resets the idle time of the entries that are still pending for this consumer.
pub(super) async fn extend_claim(link: &Link, prefix: &Prefix, consumer: &str, held: &[Position]) -> Result<(), Fault> {
    let mut by_stream: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for position in held {
        by_stream.entry(position.stream).or_default().push(reply::id(position));
    }
    for (stream, ids) in by_stream {
        let mut call = EXTEND_CLAIM.call(&[StreamKeys::new(prefix, stream).stream]);
        call.arg(GROUP).arg(consumer).arg(ids);
        let lost: Value = EXTEND_CLAIM.run(link, &call).await?;
        crate::metrics::entries_lost(&reply::positions(lost, stream)?);
    }
    Ok(())
}

/// Returns how often each entry was delivered; 0 for one that is no longer pending.
pub(super) async fn deliveries(link: &Link, prefix: &Prefix, held: &[Position]) -> Result<Vec<u64>, Fault> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let mut commands = redis::pipe();
    for position in held {
        let (stream, id) = (StreamKeys::new(prefix, position.stream).stream, reply::id(position));
        commands.cmd("XPENDING").arg(stream).arg(GROUP).arg(&id).arg(&id).arg(1);
    }
    let answers = link.pipeline(&commands).await?.into_iter().map(|answer| {
        let pending: Vec<(String, String, u64, u64)> = from_redis_value(answer).map_err(|_| unexpected("XPENDING"))?;
        Ok(pending.first().map_or(0, |(_, _, _, times)| *times))
    });
    Ok(answers.collect::<Result<_, LogError>>()?)
}
