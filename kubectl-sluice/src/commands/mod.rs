//! The commands, a file each.

pub mod audit;
pub mod backup;
pub mod change;
pub mod completions;
pub mod dead_letters;
pub mod events;
pub mod logs;
pub mod publish;
pub mod restore;
pub mod stats;
pub mod status;

use std::io::Write;

use serde::Serialize;

use crate::outcome::Closed;

/// Where a command writes its output.
pub type Out<'a> = &'a mut (dyn Write + Send);

/// Writes a text.
fn write(out: Out<'_>, text: &str) -> anyhow::Result<()> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(written.map_err(Closed::from)?)
}

/// Writes a value as JSON, for programs.
fn write_json(out: Out<'_>, value: &impl Serialize) -> anyhow::Result<()> {
    write(out, &(serde_json::to_string_pretty(value)? + "\n"))
}
