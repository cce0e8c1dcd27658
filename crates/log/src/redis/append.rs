//! Append: key records, entry and counter in one script, one round trip.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Value;

use super::connect::Link;
use super::error::unexpected;
use super::keys::StreamKeys;
use super::script::Script;
use crate::{Append, Appended, LogError};

static APPEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("append.lua")));

pub(super) async fn append(
    link: &Link,
    keys: &StreamKeys,
    append: &Append,
    keep: Duration,
) -> Result<Appended, LogError> {
    let mut names = vec![keys.stream.clone(), keys.counts.clone()];
    names.extend(append.keyed.iter().map(|request| keys.key_record(request.key)));
    let mut call = APPEND.call(&names);
    call.arg(append.entry.events).arg(&append.entry.body).arg(keep.as_millis().max(1) as u64);
    for request in &append.keyed {
        call.arg(request.body_hash.as_bytes());
    }
    let answer: Vec<Value> = APPEND.run(link, &call).await?;
    match answer.as_slice() {
        [Value::Int(0), Value::Int(backlog)] => Ok(Appended::Stored { backlog: u64::try_from(*backlog).ok() }),
        [Value::Int(0), Value::Nil] => Ok(Appended::Stored { backlog: None }),
        [Value::Int(1), indexes @ ..] => {
            let indexes = indexes.iter().map(|value| match value {
                Value::Int(index) => usize::try_from(*index).map_err(|_| unexpected("append")),
                _ => Err(unexpected("append")),
            });
            Ok(Appended::KeyReused(indexes.collect::<Result<_, _>>()?))
        }
        _ => Err(unexpected("append")),
    }
}
