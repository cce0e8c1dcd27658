//! The notice and the tallies ([`crate::notice`]): a hash each.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use sluice_event::{BodyHash, IdempotencyKeyHash};

use super::connect::Link;
use super::error::Fault;
use super::keys::{self, Prefix, StreamKeys};
use super::script::Script;
use crate::notice::{MAX_NOTICE_BYTES, Notice, NoticeRead, Tallies};
use crate::{KeyedRequest, LogError};

static REPLACE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("notice.lua")));

/// Returns what identifies the notice; `None` if there is none.
pub(super) async fn tag(link: &Link, prefix: &Prefix) -> Result<Option<String>, Fault> {
    link.query(redis::cmd("HGET").arg(keys::notice(prefix)).arg("tag")).await
}

/// Returns the notice, unless it is known.
pub(super) async fn read(link: &Link, prefix: &Prefix, known: Option<&str>) -> Result<NoticeRead, Fault> {
    match tag(link, prefix).await? {
        None => return Ok(NoticeRead::Absent),
        Some(tag) if known == Some(&*tag) => return Ok(NoticeRead::Unchanged),
        Some(_) => {}
    }
    // Both at once, because the tag may be another one meanwhile.
    let fields: (Option<String>, Option<Vec<u8>>) =
        link.query(redis::cmd("HMGET").arg(keys::notice(prefix)).arg("tag").arg("document")).await?;
    match fields {
        (Some(_), Some(document)) if document.len() > MAX_NOTICE_BYTES => {
            Err(LogError::Failed(format!("the notice has {} bytes, at most {MAX_NOTICE_BYTES}", document.len())).into())
        }
        (Some(tag), Some(document)) => Ok(NoticeRead::Changed(Notice { tag, document: Bytes::from(document) })),
        _ => Ok(NoticeRead::Absent),
    }
}

/// Replaces the notice if it is this one. Returns whether it was.
pub(super) async fn replace(
    link: &Link,
    prefix: &Prefix,
    notice: &Notice,
    before: Option<&str>,
) -> Result<bool, Fault> {
    let mut call = REPLACE.call(&[keys::notice(prefix)]);
    REPLACE.run(link, call.arg(before.unwrap_or_default()).arg(&notice.tag).arg(notice.document.as_ref())).await
}

/// Adds to tallies.
pub(super) async fn add(link: &Link, prefix: &Prefix, tallies: &Tallies) -> Result<(), Fault> {
    let mut commands = redis::pipe();
    commands.atomic();
    for (name, number) in tallies {
        commands.cmd("HINCRBY").arg(keys::tallies(prefix)).arg(name).arg(*number);
    }
    link.pipeline(&commands).await.map(drop)
}

/// Returns all tallies.
pub(super) async fn tallies(link: &Link, prefix: &Prefix) -> Result<Tallies, Fault> {
    let tallies: BTreeMap<String, u64> = link.query(redis::cmd("HGETALL").arg(keys::tallies(prefix))).await?;
    Ok(tallies)
}

/// Removes tallies.
pub(super) async fn forget(link: &Link, prefix: &Prefix, names: &[String]) -> Result<(), Fault> {
    if names.is_empty() {
        return Ok(());
    }
    link.query::<u64>(redis::cmd("HDEL").arg(keys::tallies(prefix)).arg(names)).await.map(drop)
}

/// Returns whether a request was appended to a stream under its key, as far as its record is there.
pub(super) async fn is_recorded(link: &Link, keys: &StreamKeys, request: KeyedRequest) -> Result<bool, Fault> {
    let KeyedRequest { key, body_hash } = request;
    Ok(recorded(link, &keys.newer_keys, key, body_hash).await?
        || recorded(link, &keys.older_keys, key, body_hash).await?)
}

async fn recorded(link: &Link, hash: &str, key: IdempotencyKeyHash, body: BodyHash) -> Result<bool, Fault> {
    let recorded: Option<Vec<u8>> = link.query(redis::cmd("HGET").arg(hash).arg(key.as_bytes())).await?;
    Ok(recorded.is_some_and(|recorded| recorded == body.as_bytes()))
}
