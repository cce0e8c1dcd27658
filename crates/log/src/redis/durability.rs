//! What the Redis server promises about the entries that it has confirmed.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};
use sluice_service::durability::Check;

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
