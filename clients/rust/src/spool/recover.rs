//! Reads what an earlier process left in a spool, cuts the frame that it was writing when it ended, and puts aside what is
//! damaged.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::files::{self, ACKS, DAMAGED, DEAD_LETTERS, SEGMENT, TEMPORARY, path, sync_dir};
use super::format::{self, HEADER, Parsed, VERSION};
use crate::error::OpenError;

/// What was found in a spool when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Batches that were not acknowledged. They are sent, under their keys.
    pub batches: u64,
    /// The events in them.
    pub events: u64,
    /// Bytes that were cut from the end: a batch that was being written when its process ended, so that `send` had not returned.
    pub torn_bytes: u64,
    /// What is damaged. It is not sent.
    pub damaged: Vec<Damage>,
}

/// Bytes of a segment that are damaged. They are in a file of their own now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file with the bytes.
    pub file: PathBuf,
    /// Their number.
    pub bytes: u64,
}

/// A segment with frames that are to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) frames: u64,
}

/// A directory that can be used.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) segments: Vec<Segment>,
    /// The number of the next segment.
    pub(super) next: u64,
    pub(super) recovery: Recovery,
}

/// Reads the directory. Every segment in it consists of whole frames afterwards.
pub(super) fn recover(dir: &Path) -> Result<Found, OpenError> {
    let named = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    let list = |extension| files::list(dir, extension).map_err(named(dir));
    let segments = list(SEGMENT)?;
    let mut found = Found::default();
    let all = [list(ACKS)?, list(DAMAGED)?, segments.clone()].concat();
    found.next = all.iter().map(|(number, _)| number + 1).max().unwrap_or(1);

    let last = segments.last().map(|(number, _)| *number);
    for (number, file) in &segments {
        let bytes = fs::read(file).map_err(named(file))?;
        if bytes.len() >= HEADER.len() && bytes.starts_with(&HEADER[..7]) && bytes[7] != VERSION {
            return Err(OpenError::Version { file: file.clone(), version: bytes[7] });
        }
        let pieces = pieces(&bytes, Some(*number) == last);
        mend(dir, *number, &bytes, &pieces, &mut found.recovery).map_err(named(file))?;
        let acked = acked(dir, *number).map_err(named(file))?;
        found.add(dir, *number, &pieces, &acked).map_err(named(file))?;
    }
    let kept: HashSet<u64> = found.segments.iter().map(|segment| segment.number).collect();
    let orphans = list(ACKS)?.into_iter().filter(|(number, _)| !kept.contains(number));
    for (_, file) in orphans.chain(list(TEMPORARY)?) {
        files::remove(&file).map_err(named(&file))?;
    }
    Ok(found)
}

/// Returns the keys that are acknowledged in a segment.
pub(super) fn acked(dir: &Path, segment: u64) -> io::Result<HashSet<Uuid>> {
    match fs::read(path(dir, segment, ACKS)) {
        Ok(bytes) => Ok(format::acks(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
        Err(error) => Err(error),
    }
}

/// Returns the bytes in the directory that only people remove.
pub(super) fn aside(dir: &Path) -> io::Result<u64> {
    let mut sum = files::length(&dir.join(DEAD_LETTERS))?;
    for (_, file) in files::list(dir, DAMAGED)? {
        sum += files::length(&file)?;
    }
    Ok(sum)
}

impl Found {
    fn add(&mut self, dir: &Path, number: u64, pieces: &[Piece], acked: &HashSet<Uuid>) -> io::Result<()> {
        let mut segment = Segment { number, bytes: HEADER.len() as u64, frames: 0 };
        for piece in pieces {
            if let What::Frame { key, events } = piece.what {
                segment.bytes += piece.place.len() as u64;
                if !acked.contains(&key) {
                    segment.frames += 1;
                    self.recovery.events += events;
                }
            }
        }
        if segment.frames == 0 {
            files::remove(&path(dir, number, SEGMENT))?;
            return files::remove(&path(dir, number, ACKS));
        }
        self.recovery.batches += segment.frames;
        self.segments.push(segment);
        Ok(())
    }
}

/// A part of a segment.
struct Piece {
    place: Range<usize>,
    what: What,
}

#[derive(PartialEq, Eq)]
enum What {
    Frame { key: Uuid, events: u64 },
    Damaged,
    Torn,
}

/// Divides a segment into frames, what is damaged between them, and what a crash left at the end of the last segment.
fn pieces(bytes: &[u8], is_last: bool) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = if bytes.starts_with(&HEADER) { HEADER.len() } else { 0 };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let parsed = format::parse(rest);
        let (end, what) = if let Parsed::Frame(frame) = &parsed {
            (at + frame.len(), What::Frame { key: frame.key, events: frame.events() })
        } else if let Some(next) = format::next_frame(rest) {
            (at + next, What::Damaged)
        } else {
            // Some file systems leave zeros where a write was not finished when the power was cut.
            let is_unfinished = parsed == Parsed::Incomplete
                || rest.iter().all(|byte| *byte == 0)
                || (at == 0 && HEADER.starts_with(rest));
            (bytes.len(), if is_last && is_unfinished { What::Torn } else { What::Damaged })
        };
        pieces.push(Piece { place: at..end, what });
        at = end;
    }
    pieces
}

/// Leaves nothing but whole frames in the file.
fn mend(dir: &Path, number: u64, bytes: &[u8], pieces: &[Piece], recovery: &mut Recovery) -> io::Result<()> {
    let file = path(dir, number, SEGMENT);
    for torn in pieces.iter().filter(|piece| piece.what == What::Torn) {
        recovery.torn_bytes += torn.place.len() as u64;
        tracing::warn!(file = %file.display(), bytes = torn.place.len(), "a batch that was not written to its end is cut");
        let opened = OpenOptions::new().write(true).open(&file)?;
        opened.set_len(torn.place.start as u64)?;
        opened.sync_all()?;
    }
    if !pieces.iter().any(|piece| piece.what == What::Damaged) {
        return Ok(());
    }
    let mut intact = HEADER.to_vec();
    for piece in pieces {
        let part = &bytes[piece.place.clone()];
        match piece.what {
            What::Frame { .. } => intact.extend_from_slice(part),
            What::Damaged => {
                let aside = put_aside(dir, number, piece.place.start, part)?;
                tracing::error!(file = %aside.display(), bytes = part.len(), "a part of the spool is damaged, and is put aside");
                recovery.damaged.push(Damage { file: aside, bytes: part.len() as u64 });
            }
            What::Torn => {}
        }
    }
    let temporary = path(dir, number, TEMPORARY);
    write_new(&temporary, &intact)?;
    fs::rename(&temporary, &file)?;
    sync_dir(dir)
}

/// Writes damaged bytes to a file of their own, and returns its path.
fn put_aside(dir: &Path, segment: u64, at: usize, bytes: &[u8]) -> io::Result<PathBuf> {
    let names = (0..).map(|time| match time {
        0 => dir.join(format!("{segment:016}-{at}.{DAMAGED}")),
        _ => dir.join(format!("{segment:016}-{at}-{time}.{DAMAGED}")),
    });
    // A crash after this file was written leaves the same bytes to be put aside again; others may have the same place.
    let is_free = |file: &PathBuf| fs::read(file).map_or(true, |there| there == bytes);
    let file = names.into_iter().find(is_free).ok_or(io::ErrorKind::AlreadyExists)?;
    write_new(&file, bytes)?;
    Ok(file)
}

fn write_new(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}
