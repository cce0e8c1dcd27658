//! How full Redis is: the backlog over all streams and the memory in use, in one round trip.

use redis::{Value, from_redis_value};

use super::connect::Link;
use super::error::unexpected;
use super::keys::StreamKeys;
use crate::{LogError, Pressure};

pub(super) async fn pressure(link: &Link, streams: &[StreamKeys]) -> Result<Pressure, LogError> {
    let mut commands = redis::pipe();
    commands.cmd("INFO").arg("memory");
    for keys in streams {
        commands.cmd("HMGET").arg(&keys.counts).arg("appended").arg("acknowledged");
        commands.cmd("XLEN").arg(&keys.stream);
    }
    let mut answers = link.pipeline(&commands).await?.into_iter();
    let memory: String = take(&mut answers)?;
    let mut backlog = Some(0u64);
    for _ in streams {
        let (appended, acknowledged): (Option<u64>, Option<u64>) = take(&mut answers)?;
        let length: u64 = take(&mut answers)?;
        backlog = backlog.zip(outstanding(appended, acknowledged, length)).map(|(sum, events)| sum + events);
    }
    Ok(Pressure { backlog, memory: share_of_memory(&memory) })
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
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse::<f64>().ok()
    };
    let max = field("maxmemory").filter(|max| *max > 0.0)?;
    Some(field("used_memory")? / max)
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
