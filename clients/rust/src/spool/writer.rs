//! Appends frames to segments.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::books::Books;
use super::files::{SEGMENT, path, sync_dir};
use super::format::HEADER;

/// The one writer of a directory.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) books: Arc<Books>,
    /// The length at which a segment is complete.
    pub(super) segment_bytes: u64,
    /// The number of the next segment.
    pub(super) next: u64,
    pub(super) open: Option<Open>,
}

/// The segment that is written.
#[derive(Debug)]
pub(super) struct Open {
    number: u64,
    file: File,
    end: u64,
}

/// A frame that is synced, and is not in the books yet.
#[derive(Debug)]
pub(crate) struct Written {
    pub(super) segment: u64,
    pub(super) end: u64,
}

impl Writer {
    /// Writes a frame and syncs it. Returns `None` if the directory is full.
    pub(super) fn append(&mut self, frame: &[u8]) -> io::Result<Option<Written>> {
        if !self.books.has_room((HEADER.len() + frame.len()) as u64) {
            return Ok(None);
        }
        let written = self.write(frame);
        if written.is_err() {
            self.open = None;
            self.books.end_active();
        }
        written.map(Some)
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<Written> {
        let length = frame.len() as u64;
        let current = self.open.take().filter(|open| self.books.is_active(open.number));
        let (mut open, is_new) = match current.filter(|open| open.end + length <= self.segment_bytes) {
            Some(open) => (open, false),
            None => (self.begin()?, true),
        };
        let written = open.file.write_all(frame).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            // Nobody was told that it is there.
            let _ = open.file.set_len(open.end);
            return Err(error);
        }
        if is_new {
            sync_dir(&self.dir)?;
        }
        open.end += length;
        let written = Written { segment: open.number, end: open.end };
        self.open = Some(open);
        Ok(written)
    }

    fn begin(&mut self) -> io::Result<Open> {
        let number = self.next;
        let mut file = OpenOptions::new().append(true).create_new(true).open(path(&self.dir, number, SEGMENT))?;
        self.next += 1;
        self.books.begin(number);
        file.write_all(&HEADER)?;
        Ok(Open { number, file, end: HEADER.len() as u64 })
    }
}
