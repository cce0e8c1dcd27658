//! The names of the files of a spool, and how they are made to last.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub(super) const SEGMENT: &str = "segment";
pub(super) const ACKS: &str = "acks";
pub(super) const DAMAGED: &str = "damaged";
/// What a crash left of a file that was about to be replaced.
pub(super) const TEMPORARY: &str = "temporary";
pub(super) const LOCK: &str = "lock";
pub(super) const DEAD_LETTERS: &str = "dead-letters.ndjson";

/// Returns the path of a file that belongs to a segment.
pub(super) fn path(dir: &Path, segment: u64, extension: &str) -> PathBuf {
    dir.join(format!("{segment:016}.{extension}"))
}

/// Returns the number of the segment to which a file belongs; `None` if it belongs to none.
pub(super) fn segment_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    // What is damaged has its place behind the number.
    let number = name.split(['.', '-']).next()?;
    (number.len() == 16).then(|| number.parse().ok()).flatten()
}

/// Returns the files with this extension that belong to segments, in their order.
pub(super) fn list(dir: &Path, extension: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let has_extension = path.extension().is_some_and(|found| found == extension);
        found.extend(segment_of(&path).filter(|_| has_extension).map(|segment| (segment, path)));
    }
    found.sort();
    Ok(found)
}

/// Makes names last that were created, replaced or removed in a directory.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Returns the length of a file that may not be there.
pub(super) fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_segment() {
        let dir = Path::new("spool");
        assert_eq!(segment_of(&path(dir, 7, SEGMENT)), Some(7));
        assert_eq!(segment_of(&dir.join("0000000000000007-120.damaged")), Some(7));
        assert_eq!(segment_of(&dir.join(LOCK)), None);
        assert_eq!(segment_of(&dir.join(DEAD_LETTERS)), None);
    }
}
