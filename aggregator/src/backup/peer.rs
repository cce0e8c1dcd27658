//! The files by which this program and the one that makes or reads the dump tell each other how far they are.

use std::path::Path;

use anyhow::Context;

use super::manifest::Manifest;

/// Tells the other program of a failure. It may still wait for this one to be ready.
pub(super) fn told(ready: Option<&Path>, result: anyhow::Result<()>) -> anyhow::Result<()> {
    if result.is_err() {
        write_file(ready, READY[1])?;
    }
    result
}

/// Writes a manifest into the file that is asked for, in one line.
pub(super) fn report(file: Option<&Path>, manifest: &Manifest) -> anyhow::Result<()> {
    write_file(file, &format!("{}\n", serde_json::to_string(manifest)?))
}

/// What the file of `--ready` says when the dump can flow, and when it never will.
pub(super) const READY: [&str; 2] = ["ready\n", "failed\n"];

/// Writes a file that another program waits for, if it is asked for.
pub(super) fn write_file(file: Option<&Path>, text: &str) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
