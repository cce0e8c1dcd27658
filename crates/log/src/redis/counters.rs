//! The counters, as an audit reads them: without a consumer, and without creating anything.

use std::collections::HashMap;

use redis::Value;

use super::address::SentinelLogin;
use super::connect::Link;
use super::error::Fault;
use super::keys::StreamKeys;
use super::streams;
use super::tls::RedisTls;
use crate::{LogCounters, LogError};

/// Returns the counters of all streams that were ever used, and of at least `streams`.
///
/// # Errors
/// When the URL is invalid, or Redis does not answer.
pub async fn counters(
    (url, tls, sentinel): (&str, &RedisTls, &SentinelLogin),
    prefix: &str,
    streams: u16,
) -> Result<LogCounters, LogError> {
    let link = Link::new(url, tls, sentinel)?;
    let prefix = &link.prefix(prefix);
    let highest = streams::highest(&link, prefix).await?.max(streams);
    let mut sum = LogCounters { appended: Some(0), acknowledged: Some(0) };
    for number in 0..highest {
        let keys = StreamKeys::new(prefix, number);
        let mut counts = redis::cmd("HMGET");
        counts.arg(&keys.counts).arg("appended").arg("acknowledged").arg("counted_again");
        type Answer = (Option<u64>, Option<u64>, Option<u64>);
        let (appended, acknowledged, counted_again): Answer = link.query(&counts).await?;
        let entries = entries_added(&link, &keys.stream).await?;
        // Each entry has an event at least, so a counter of fewer events was lost, and begun again. A stream that was
        // never written to has no counter, and nothing is acknowledged before the first time.
        let is_total = |events: &u64| counted_again.is_none() && *events >= entries;
        let appended = Some(appended.unwrap_or(0)).filter(is_total);
        let acknowledged = appended.map(|_| acknowledged.unwrap_or(0));
        sum.appended = sum.appended.zip(appended).map(|(sum, events)| sum + events);
        sum.acknowledged = sum.acknowledged.zip(acknowledged).map(|(sum, events)| sum + events);
    }
    Ok(sum)
}

/// Returns how many entries were ever added to a stream; 0 if it does not exist.
async fn entries_added(link: &Link, stream: &str) -> Result<u64, Fault> {
    let exists: bool = link.query(redis::cmd("EXISTS").arg(stream)).await?;
    if !exists {
        return Ok(0);
    }
    let info: HashMap<String, Value> = link.query(redis::cmd("XINFO").arg("STREAM").arg(stream)).await?;
    match info.get("entries-added") {
        Some(Value::Int(entries)) => Ok(entries.unsigned_abs()),
        _ => Ok(0),
    }
}
