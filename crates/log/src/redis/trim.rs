//! Trim: XACK frees nothing, this does.

use std::sync::LazyLock;

use super::connect::Link;
use super::error::Fault;
use super::keys::{GROUP, StreamKeys};
use super::script::Script;
use super::settings::ReaderSettings;

static TRIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("trim.lua")));

/// Removes what every consumer has acknowledged, but for the replay window; answers how many
/// entries that were.
pub(super) async fn trim(link: &Link, streams: &[StreamKeys], settings: &ReaderSettings) -> Result<u64, Fault> {
    let mut sum = 0;
    for keys in streams {
        let mut call = TRIM.call(&[&keys.stream, &keys.counts]);
        call.arg(GROUP).arg(settings.replay_window.as_millis() as u64).arg(settings.replay_window_bytes);
        let (removed, settled): (u64, bool) = TRIM.run(link, &call).await?;
        if settled {
            tracing::warn!(stream = keys.stream, "the counters did not agree with an empty backlog and were set right");
        }
        sum += removed;
    }
    Ok(sum)
}
