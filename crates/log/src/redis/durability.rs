//! What the Redis server promises about the entries that it has confirmed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};
use sluice_service::durability::{Check, Durability, Found};

use super::error::Fault;
use super::info::field;
use crate::LogError;

/// Appended entries are in a file.
const APPENDONLY: &str = "redis.appendonly";
/// Each entry is on disk before it is confirmed.
const APPENDFSYNC: &str = "redis.appendfsync";
/// Also while the file is written anew.
const NO_FSYNC_ON_REWRITE: &str = "redis.no-appendfsync-on-rewrite";
/// There is a limit, so that entries are refused before the system ends the server for want of memory.
const MAXMEMORY: &str = "redis.maxmemory";
/// No entry is removed to make room.
const MAXMEMORY_POLICY: &str = "redis.maxmemory-policy";

/// The names of all settings that are checked.
pub const DURABILITY_SETTINGS: [&str; 5] = [APPENDONLY, APPENDFSYNC, NO_FSYNC_ON_REWRITE, MAXMEMORY, MAXMEMORY_POLICY];

/// What the servers of a log promise: that of a cluster is what its least safe node promises.
pub(super) struct Promises {
    all: Durability,
    by_node: Mutex<BTreeMap<String, Vec<Check>>>,
}

impl Promises {
    pub fn new() -> Self {
        Self { all: Durability::of("Redis"), by_node: Mutex::default() }
    }

    /// Returns what all promise, as it was last found.
    pub fn all(&self) -> &Durability {
        &self.all
    }

    /// Records what a node promises.
    pub fn record(&self, node: &str, found: Vec<Check>) {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        by_node.insert(node.to_owned(), found);
        self.all.record(least(by_node.values()));
    }

    /// Forgets the nodes that are no longer used.
    pub fn retain(&self, is_used: impl Fn(&str) -> bool) {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        let before = by_node.len();
        by_node.retain(|node, _| is_used(node));
        if by_node.len() < before && !by_node.is_empty() {
            self.all.record(least(by_node.values()));
        }
    }
}

/// Returns for each setting the check that found least.
fn least<'a>(nodes: impl Iterator<Item = &'a Vec<Check>>) -> Vec<Check> {
    let rank = |check: &Check| match check.found {
        Found::Less(_) => 0,
        Found::Unknown => 1,
        Found::Enough => 2,
    };
    let mut least: Vec<Check> = Vec::new();
    for check in nodes.flatten() {
        match least.iter_mut().find(|other| other.setting == check.setting) {
            Some(other) if rank(check) < rank(other) => *other = check.clone(),
            Some(_) => {}
            None => least.push(check.clone()),
        }
    }
    least
}

/// Asks the server. What it does not tell is unknown: managed servers often refuse CONFIG.
///
/// # Errors
/// When the server does not answer, so that this says nothing about it.
pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result<Vec<Check>, LogError> {
    let persistence: Option<String> = ask(connection, redis::cmd("INFO").arg("persistence")).await?;
    let memory: Option<String> = ask(connection, redis::cmd("INFO").arg("memory")).await?;
    let fsync = config(connection, "appendfsync").await?;
    let no_fsync_on_rewrite = config(connection, "no-appendfsync-on-rewrite").await?;
    let aof = persistence.as_deref().and_then(|info| field(info, "aof_enabled"));
    let aof = aof.map(|enabled| if enabled == "1" { "yes" } else { "no" });
    let max_memory = memory.as_deref().and_then(|info| field(info, "maxmemory"));
    let policy = memory.as_deref().and_then(|info| field(info, "maxmemory_policy"));
    Ok(vec![
        Check::new(APPENDONLY, "yes", aof, |value| value == "yes"),
        Check::new(APPENDFSYNC, "always", fsync.as_deref(), |value| value == "always"),
        Check::new(NO_FSYNC_ON_REWRITE, "no", no_fsync_on_rewrite.as_deref(), |value| value == "no"),
        Check::new(MAXMEMORY, "a limit above 0", max_memory, |value| value != "0"),
        Check::new(MAXMEMORY_POLICY, "noeviction", policy, |value| value == "noeviction"),
    ])
}

/// Returns a setting of the server; `None` when it does not tell it.
async fn config(connection: &mut MultiplexedConnection, name: &str) -> Result<Option<String>, LogError> {
    let pair: Option<Vec<String>> = ask(connection, redis::cmd("CONFIG").arg("GET").arg(name)).await?;
    Ok(pair.and_then(|pair| pair.into_iter().nth(1)))
}

/// Returns the answer; `None` when the server refuses the question.
async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Option<T>, LogError> {
    match command.query_async(connection).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match LogError::from(Fault::from(error)) {
            LogError::Failed(refusal) => {
                tracing::debug!(refusal, "the server does not tell what it promises");
                Ok(None)
            }
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_promises_what_its_least_safe_node_promises() {
        let node = |value| vec![Check::new(APPENDFSYNC, "always", value, |value| value == "always")];
        let found = |nodes: &[Vec<Check>]| least(nodes.iter())[0].found.clone();
        let (always, everysec, unknown) = (node(Some("always")), node(Some("everysec")), node(None));
        assert_eq!(found(std::slice::from_ref(&always)), Found::Enough);
        assert_eq!(found(&[always.clone(), unknown.clone()]), Found::Unknown);
        assert_eq!(found(&[everysec, unknown, always]), Found::Less("everysec".into()));
    }
}
