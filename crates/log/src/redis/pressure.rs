//! How full Redis is: the backlog over all streams and the memory in use.

use redis::{Value, from_redis_value};

use super::connect::Link;
use super::error::unexpected;
use super::info::field;
use super::keys::StreamKeys;
use crate::{LogError, Pressure};

pub(super) async fn pressure(link: &Link, streams: &[StreamKeys]) -> Result<Pressure, LogError> {
    let mut commands = redis::pipe();
    for keys in streams {
        commands.cmd("HMGET").arg(&keys.counts).arg("appended").arg("acknowledged");
        commands.cmd("XLEN").arg(&keys.stream);
    }
    let mut answers = link.pipeline(&commands).await?.into_iter();
    let mut backlog = Some(0u64);
    for _ in streams {
        let (appended, acknowledged): (Option<u64>, Option<u64>) = take(&mut answers)?;
        let length: u64 = take(&mut answers)?;
        backlog = backlog.zip(outstanding(appended, acknowledged, length)).map(|(sum, events)| sum + events);
    }
    // The fullest node of a cluster is what matters: it refuses appends first.
    let nodes = link.memory_of(streams).await?;
    let memory = nodes.iter().filter_map(|node| share_of_memory(&node.info)).reduce(f64::max);
    // Without the right to ask for it, the rest is known nevertheless.
    let key_records = key_records(link, streams).await.map_or(f64::NAN, |bytes| bytes as f64);
    metrics::gauge!(crate::metrics::KEY_RECORDS_BYTES.name).set(key_records);
    Ok(Pressure { backlog, memory })
}

/// Returns the memory of the records of keys, in bytes.
async fn key_records(link: &Link, streams: &[StreamKeys]) -> Result<u64, LogError> {
    let mut commands = redis::pipe();
    for key in streams.iter().flat_map(|keys| [&keys.newer_keys, &keys.older_keys]) {
        commands.cmd("MEMORY").arg("USAGE").arg(key);
    }
    let mut answers = link.pipeline(&commands).await?.into_iter();
    let mut sum = 0;
    for _ in 0..2 * streams.len() {
        sum += take::<Option<u64>>(&mut answers)?.unwrap_or(0);
    }
    Ok(sum)
}

/// Returns the number of events appended and not acknowledged; `None` when the counter was lost but the
/// stream was not.
pub(super) fn outstanding(appended: Option<u64>, acknowledged: Option<u64>, length: u64) -> Option<u64> {
    match appended {
        Some(appended) => Some(appended.saturating_sub(acknowledged.unwrap_or(0))),
        None if length == 0 => Some(0),
        None => None,
    }
}

fn take<T: redis::FromRedisValue>(answers: &mut impl Iterator<Item = Value>) -> Result<T, LogError> {
    let answer = answers.next().ok_or_else(|| unexpected("INFO"))?;
    from_redis_value(answer).map_err(|_| unexpected("INFO"))
}

fn share_of_memory(info: &str) -> Option<f64> {
    Some(number(info, "used_memory")? / max_memory_of(info)?)
}

/// Returns the memory that a server may use, in bytes (`None` when it has no limit, or does not tell it), and the number
/// of the streams on it: of the node of a cluster that has least for each stream.
pub(super) async fn max_memory(link: &Link, streams: &[StreamKeys]) -> Result<(Option<f64>, u16), LogError> {
    let nodes = match link.memory_of(streams).await.map_err(LogError::from) {
        Ok(nodes) => nodes,
        Err(LogError::Failed(_)) => return Ok((None, streams.len() as u16)),
        Err(error) => return Err(error),
    };
    let most = nodes.iter().map(|node| node.streams).max().unwrap_or(1);
    let least = nodes.iter().filter_map(|node| max_memory_of(&node.info)).reduce(f64::min);
    Ok((least, most))
}

fn max_memory_of(info: &str) -> Option<f64> {
    number(info, "maxmemory").filter(|max| *max > 0.0)
}

fn number(info: &str, name: &str) -> Option<f64> {
    field(info, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_unknown_when_the_server_has_no_limit() {
        assert_eq!(share_of_memory("used_memory:100\r\nmaxmemory:0\r\n"), None);
        assert_eq!(
            share_of_memory("# Memory\r\nused_memory:100\r\nused_memory_rss:7\r\nmaxmemory:400\r\n"),
            Some(0.25)
        );
    }

    #[test]
    fn a_lost_counter_is_unknown_and_not_zero() {
        assert_eq!(outstanding(None, Some(3), 5), None);
        assert_eq!(outstanding(None, None, 0), Some(0));
        assert_eq!(outstanding(Some(3), Some(5), 1), Some(0));
    }
}
