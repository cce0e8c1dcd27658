//! Reads the frames that are to be sent, in the order in which they were written.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::books::Books;
use super::files::{SEGMENT, path};
use super::format::{FRAME_HEADER, HEADER, frame_header};
use super::recover::acked;
use crate::batch::Batch;

/// The one reader of a directory.
#[derive(Debug)]
pub(super) struct Reader {
    dir: PathBuf,
    books: Arc<Books>,
    /// The segment that is read, or the last one that was.
    number: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    at: u64,
    /// What an earlier process has acknowledged.
    acked: HashSet<Uuid>,
}

/// A batch, and where it is.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(super) segment: u64,
    pub(crate) batch: Batch,
}

impl Reader {
    pub(super) fn new(dir: PathBuf, books: Arc<Books>) -> Self {
        Self { dir, books, number: 0, open: None }
    }

    /// Returns the next batch, or `None` if there is no further one yet.
    pub(super) fn next(&mut self) -> Option<Spooled> {
        loop {
            if let Some(open) = &mut self.open {
                let extent = self.books.extent(self.number);
                if let Some((end, _)) = extent
                    && open.at < end
                {
                    match open.read() {
                        Ok(batch) if open.acked.contains(&batch.key()) => {}
                        Ok(batch) => return Some(Spooled { segment: self.number, batch }),
                        Err(error) => self.give_up(&error),
                    }
                    continue;
                }
                if extent.is_some_and(|(_, is_complete)| !is_complete) {
                    return None;
                }
            }
            self.open = None;
            self.number = self.books.after(self.number)?;
            match Open::new(&self.dir, self.number) {
                Ok(open) => self.open = Some(open),
                Err(error) => self.give_up(&error),
            }
        }
    }

    /// Leaves the rest of a segment, which was good when it was opened, for the next time that it is.
    fn give_up(&mut self, error: &io::Error) {
        let file = path(&self.dir, self.number, SEGMENT);
        tracing::error!(file = %file.display(), %error, "the spool cannot be read here; the rest of the file is not sent now");
        self.books.is_damaged(self.number);
        self.open = None;
    }
}

impl Open {
    fn new(dir: &std::path::Path, number: u64) -> io::Result<Self> {
        let file = File::open(path(dir, number, SEGMENT))?;
        Ok(Self { file, at: HEADER.len() as u64, acked: acked(dir, number)? })
    }

    fn read(&mut self) -> io::Result<Batch> {
        let mut header = [0; FRAME_HEADER];
        self.file.read_exact_at(&mut header, self.at)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("damaged at byte {}", self.at));
        let (key, length, checksum) = frame_header(&header).ok_or_else(damaged)?;
        let mut body = vec![0; length];
        self.file.read_exact_at(&mut body, self.at + FRAME_HEADER as u64)?;
        if crc32fast::hash(&body) != checksum {
            return Err(damaged());
        }
        self.at += (FRAME_HEADER + length) as u64;
        Ok(Batch::new(key, body.into()))
    }
}
