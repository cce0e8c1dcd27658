//! Trim: removes acknowledged entries, which XACK does not do.

use std::sync::LazyLock;

use super::connect::Link;
use super::error::Fault;
use super::keys::{GROUP, StreamKeys};
use super::recount::recount;
use super::script::Script;
use super::settings::ReaderSettings;

static TRIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("trim.lua")));

/// Removes acknowledged entries outside the replay window, unless a replay is pending; returns the number of removed entries. Counts the events
/// again where the counters were lost.
pub(super) async fn trim(link: &Link, streams: &[StreamKeys], settings: &ReaderSettings) -> Result<u64, Fault> {
    let mut sum = 0;
    for keys in streams {
        let mut call = TRIM.call(&[&keys.stream, &keys.counts, &keys.window, &keys.replay]);
        call.arg(GROUP).arg(settings.replay_window.as_millis() as u64).arg(settings.replay_window_bytes);
        call.arg(streams.len());
        let (removed, corrected, lost): (u64, bool, bool) = TRIM.run(link, &call).await?;
        if corrected {
            tracing::warn!(
                stream = keys.stream,
                "the counters disagreed although the backlog is empty, and were corrected"
            );
        }
        if lost {
            recount(link, keys).await?;
        }
        sum += removed;
    }
    Ok(sum)
}
