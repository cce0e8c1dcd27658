//! The command that reads, and its answer.

use std::time::Duration;

use redis::{Cmd, Value};

use super::keys::{GROUP, StreamKeys};
use super::reply;
use crate::{Delivered, LogError};

/// Returns the command that reads up to `count` new entries of each stream, and waits up to `wait` for the first.
pub(super) fn read_new(streams: &[StreamKeys], consumer: &str, count: usize, wait: Duration) -> Cmd {
    let mut command = read_group(consumer, count);
    if !wait.is_zero() {
        // BLOCK 0 would wait without a limit.
        command.arg("BLOCK").arg(wait.as_millis().max(1) as u64);
    }
    command.arg("STREAMS");
    for keys in streams {
        command.arg(&keys.stream);
    }
    for _ in streams {
        command.arg(">");
    }
    command
}

/// Returns the beginning of a command that reads as a consumer of the group.
pub(super) fn read_group(consumer: &str, count: usize) -> Cmd {
    let mut command = redis::cmd("XREADGROUP");
    command.arg("GROUP").arg(GROUP).arg(consumer).arg("COUNT").arg(count.max(1));
    command
}

/// Returns the entries of an answer.
pub(super) fn delivered(answer: Value, streams: &[StreamKeys]) -> Result<Vec<Delivered>, LogError> {
    Ok(reply::by_stream(answer, streams)?.into_iter().filter_map(|found| found.entry).collect())
}
