//! The number of streams: those in use, and those of a higher number in the past, which are still read.

use std::sync::LazyLock;

use super::connect::Link;
use super::error::Fault;
use super::keys::{self, Prefix};
use super::script::Script;

static STREAMS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("streams.lua")));

/// Records that `streams` are written to; returns the highest number ever.
pub(super) async fn record(link: &Link, prefix: &Prefix, streams: u16) -> Result<u16, Fault> {
    let mut call = STREAMS.call(&[keys::streams(prefix)]);
    STREAMS.run(link, call.arg(streams)).await
}

/// Returns the highest number of streams ever written to; 0 when nothing was recorded.
pub(super) async fn highest(link: &Link, prefix: &Prefix) -> Result<u16, Fault> {
    let highest: Option<u16> = link.query(redis::cmd("GET").arg(keys::streams(prefix))).await?;
    Ok(highest.unwrap_or(0))
}
