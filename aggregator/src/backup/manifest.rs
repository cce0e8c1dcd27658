//! The manifest of a backup: a small JSON object beside the dump. A backup exists once its manifest does.

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the manifest that this program writes, and the newest one that it reads.
pub(super) const FORMAT: u32 = 1;
/// How the name of a dump ends.
pub(super) const DUMP: &str = ".dump";
/// How the name of a manifest ends.
pub(super) const MANIFEST: &str = ".json";
/// The longest manifest that is read.
pub(super) const MAX_BYTES: u64 = 64 << 10;

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// The name of the backup: the time at which it began.
    pub name: String,
    /// When it began. What was stored until then is in it.
    pub began: Timestamp,
    /// When the whole dump was stored.
    pub ended: Timestamp,
    /// The bytes of the dump.
    pub size: u64,
    /// The SHA-256 of the dump, in hexadecimal digits.
    pub sha256: String,
    /// The schema whose tables are in it.
    pub schema: String,
    /// The major version of PostgreSQL. A server of this version or a newer one can restore it.
    pub postgres: u32,
    /// The version of Sluice.
    pub sluice: String,
    /// The number of events that were stored when it began, by the counters. The dump has at least these.
    pub events: u64,
    /// The bytes that the tables took in the database, with their indexes.
    pub database_bytes: u64,
}

impl Manifest {
    /// Parses a manifest.
    ///
    /// # Errors
    /// If it is not one, or is of a newer format.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(bytes).context("it is not a manifest")?;
        ensure!(format <= FORMAT, "it has the format {format}, and this version reads formats up to {FORMAT}");
        let manifest: Self = serde_json::from_slice(bytes).context("it is not a manifest")?;
        ensure!(is_name(&manifest.name), "it names a backup {:?}, which is not a name of this program", manifest.name);
        Ok(manifest)
    }
}

/// Returns the name of a backup that begins now. Names sort by time.
pub(super) fn name_at(time: Timestamp) -> String {
    let millis = time.subsec_millisecond();
    format!("{}-{millis:03}", time.strftime("%Y%m%d-%H%M%S"))
}

/// Whether it can be the name of a backup: digits and hyphens alone, so that it is a valid file name everywhere.
pub fn is_name(text: &str) -> bool {
    let parts: Vec<_> =
        text.split('-').map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then_some(part.len())).collect();
    parts == [Some(8), Some(6), Some(3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_can_be_recognised() {
        let at = |text: &str| name_at(text.parse().unwrap());
        assert_eq!(at("2026-01-02T03:04:05.678Z"), "20260102-030405-678");
        assert!(at("2026-01-02T03:04:05.099Z") < at("2026-01-02T03:04:05.1Z"));
        assert!(is_name(&at("2026-01-02T03:04:05Z")));
        for text in ["", "20260102-030405", "../20260102-030405-678", "20260102-030405-67x", "20260102-030405-678-1"] {
            assert!(!is_name(text), "{text}");
        }
    }

    #[test]
    fn a_manifest_of_a_newer_format_is_refused_and_not_misread() {
        let error = Manifest::parse(br#"{"format": 2, "name": 7}"#).unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
        assert!(Manifest::parse(b"{}").is_err());
    }
}
