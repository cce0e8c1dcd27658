//! Recount: makes the backlog known again after its counters were lost while entries are outstanding.

use std::sync::LazyLock;

use super::connect::Link;
use super::error::Fault;
use super::keys::{GROUP, StreamKeys};
use super::script::Script;

static RECOUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!("#!lua flags=allow-oom\n", include_str!("entries.lua"), include_str!("recount.lua")))
});

/// The number of entries that one call counts, during which the server answers nobody else.
const ENTRIES: usize = 256;
/// The maximum number of calls, after which the next trim continues.
const MAX_CALLS: usize = 400;

/// Counts the events again that are not acknowledged, or a part of them.
pub(super) async fn recount(link: &Link, keys: &StreamKeys) -> Result<(), Fault> {
    let mut call = RECOUNT.call(&[&keys.stream, &keys.counts]);
    call.arg(GROUP).arg(ENTRIES);
    for _ in 0..MAX_CALLS {
        let known: bool = RECOUNT.run(link, &call).await?;
        if known {
            tracing::warn!(stream = keys.stream, "the counters were lost, and the backlog was counted again");
            break;
        }
    }
    Ok(())
}
