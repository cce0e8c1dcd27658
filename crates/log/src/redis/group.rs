//! Creates the consumer group where it is missing.

use std::sync::LazyLock;

use super::connect::Link;
use super::error::Fault;
use super::keys::{GROUP, StreamKeys};
use super::script::Script;

static GROUP_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!("#!lua flags=allow-oom\n", include_str!("entries.lua"), include_str!("group.lua")))
});

/// Creates the group on each of these streams where it is missing, at the beginning of the stream, and
/// then counts its events again.
pub(super) async fn ensure(link: &Link, streams: &[StreamKeys]) -> Result<(), Fault> {
    for keys in streams {
        let mut call = GROUP_SCRIPT.call(&[&keys.stream, &keys.counts]);
        let created: bool = GROUP_SCRIPT.run(link, call.arg(GROUP)).await?;
        if created {
            tracing::info!(
                stream = keys.stream,
                group = GROUP,
                "consumer group created at the beginning of the stream"
            );
        }
    }
    Ok(())
}
