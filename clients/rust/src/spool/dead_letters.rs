//! The events that the server refused, each on a line with the reason.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;

use super::files::{DEAD_LETTERS, sync_dir};
use crate::batch::Batch;
use crate::outcome::Rejection;

/// A line of the file.
#[derive(Serialize)]
struct DeadLetter<'d> {
    refused_at: String,
    idempotency_key: String,
    status: u16,
    code: &'d str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'d str>,
    detail: &'d str,
    /// As it was sent.
    event: &'d RawValue,
}

/// Appends events to the file, and syncs it.
pub(super) fn append(dir: &Path, batch: &Batch, rejections: &[(usize, Rejection)]) -> io::Result<()> {
    let refused_at = jiff::Timestamp::now().to_string();
    let mut lines = Vec::new();
    for (event, Rejection { status, code, field, detail }) in rejections {
        let line = batch.lines(&(*event..event + 1));
        let letter = DeadLetter {
            refused_at: refused_at.clone(),
            idempotency_key: batch.key().to_string(),
            status: *status,
            code,
            field: field.as_deref(),
            detail,
            event: serde_json::from_slice(&line)?,
        };
        serde_json::to_writer(&mut lines, &letter)?;
        lines.push(b'\n');
    }
    let path = dir.join(DEAD_LETTERS);
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(&lines)?;
    file.sync_data()?;
    if is_new { sync_dir(dir) } else { Ok(()) }
}
