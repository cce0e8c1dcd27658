//! The consumer group, made where it is missing.

use std::sync::LazyLock;

use super::connect::Link;
use super::error::Fault;
use super::keys::{GROUP, StreamKeys};
use super::script::Script;

static GROUP_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("group.lua")));

/// Makes the group on each of these streams, at the beginning, and counts anew where it did.
pub(super) async fn ensure(link: &Link, streams: &[StreamKeys]) -> Result<(), Fault> {
    for keys in streams {
        let mut call = GROUP_SCRIPT.call(&[&keys.stream, &keys.counts]);
        let made: bool = GROUP_SCRIPT.run(link, call.arg(GROUP)).await?;
        if made {
            tracing::info!(stream = keys.stream, group = GROUP, "consumer group made at the beginning of the stream");
        }
    }
    Ok(())
}
