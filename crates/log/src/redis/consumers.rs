//! Consumers: lists the consumers of the group and removes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Value, from_redis_value};

use super::connect::Link;
use super::error::{Fault, unexpected};
use super::keys::{GROUP, StreamKeys};
use super::script::Script;
use crate::{ConsumerInfo, LogError};

static REMOVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("consumers.lua")));

/// Returns the group's consumers by name, over all streams.
pub(super) async fn list(link: &Link, streams: &[StreamKeys]) -> Result<Vec<ConsumerInfo>, Fault> {
    let mut consumers: BTreeMap<String, ConsumerInfo> = BTreeMap::new();
    for keys in streams {
        let answer: Vec<HashMap<String, Value>> =
            link.query(redis::cmd("XINFO").arg("CONSUMERS").arg(&keys.stream).arg(GROUP)).await?;
        for mut fields in answer {
            let name: String = take(&mut fields, "name")?;
            let pending: u64 = take(&mut fields, "pending")?;
            let idle = Duration::from_millis(take(&mut fields, "idle")?);
            let consumer = consumers.entry(name.clone()).or_insert(ConsumerInfo { name, pending: 0, idle });
            consumer.pending += pending;
            consumer.idle = consumer.idle.min(idle);
        }
    }
    Ok(consumers.into_values().collect())
}

/// Removes those of these consumers that have been idle for `idle` and have no pending entry; returns
/// their names.
pub(super) async fn remove(
    link: &Link,
    streams: &[StreamKeys],
    names: &[String],
    idle: Duration,
) -> Result<Vec<String>, Fault> {
    let mut removed = BTreeSet::new();
    for keys in streams {
        let mut call = REMOVE.call(&[&keys.stream]);
        call.arg(GROUP).arg(idle.as_millis() as u64).arg(names);
        removed.extend(REMOVE.run::<Vec<String>>(link, &call).await?);
    }
    Ok(removed.into_iter().collect())
}

fn take<T: redis::FromRedisValue>(fields: &mut HashMap<String, Value>, name: &str) -> Result<T, LogError> {
    let value = fields.remove(name).ok_or_else(|| unexpected("XINFO CONSUMERS"))?;
    from_redis_value(value).map_err(|_| unexpected("XINFO CONSUMERS"))
}
