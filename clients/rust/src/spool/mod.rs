//! Batches on disk. [`format`] describes the files.
//!
//! ```text
//! Writer ──a frame, synced──▶ segments ──▶ Reader ──▶ requests ──▶ acknowledgments │ dead letters
//!    ▲                          │                                       │
//!    └── has the spool room? ── Books ◀── which frames are left? ───────┘
//! ```

mod books;
mod dead_letters;
mod files;
mod format;
mod reader;
mod recover;
mod writer;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use self::books::Books;
use self::reader::Reader;
use self::recover::recover;
use self::writer::Writer;
use crate::batch::Batch;
use crate::error::OpenError;
use crate::outcome::Rejection;

pub(crate) use self::books::Usage;
pub(crate) use self::reader::Spooled;
pub use self::recover::{Damage, Recovery};
pub(crate) use self::writer::Written;

/// Segments are an eighth of the spool, so that room becomes free before all of it is sent, and no longer than this, because
/// one at a time is read into memory when a spool is opened.
const MAX_SEGMENT: u64 = 16 << 20;

/// A directory with batches that wait to be sent. All its functions block.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    books: Arc<Books>,
    writer: Mutex<Writer>,
    reader: Mutex<Reader>,
    lock: Lock,
}

impl Spool {
    /// Opens a directory, which is created if it is not there, and locks it.
    pub(crate) fn open(dir: &Path, max_bytes: u64) -> Result<(Self, Recovery), OpenError> {
        let named = |error| OpenError::Io { path: dir.to_owned(), error };
        create(dir).map_err(named)?;
        let lock = Lock::take(dir)?;
        let found = recover(dir)?;
        let aside = recover::aside(dir).map_err(named)?;
        let damaged = found.recovery.damaged.len() as u64;
        let books = Arc::new(Books::new(dir.to_owned(), max_bytes, &found.segments, aside, damaged));
        let writer = Writer {
            dir: dir.to_owned(),
            books: books.clone(),
            segment_bytes: (max_bytes / 8).min(MAX_SEGMENT),
            next: found.next,
            open: None,
        };
        let reader = Mutex::new(Reader::new(dir.to_owned(), books.clone()));
        let writer = Mutex::new(writer);
        Ok((Self { dir: dir.to_owned(), books, writer, reader, lock }, found.recovery))
    }

    /// Writes a batch and syncs it. Returns `None` if the spool is full. It is not read before [`Spool::add`].
    pub(crate) fn append(&self, batch: &Batch) -> io::Result<Option<Written>> {
        let frame = format::frame(batch.key(), &batch.lines(&batch.all())).ok_or(io::ErrorKind::FileTooLarge)?;
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).append(&frame)
    }

    /// Lets a batch be read that was written.
    pub(crate) fn add(&self, written: &Written) {
        self.books.add(written.segment, written.end);
    }

    /// Returns the next batch to send, or `None` if there is none yet.
    pub(crate) fn next(&self) -> Option<Spooled> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    /// Remembers that a batch was answered. The events that were refused become dead letters first: a crash between the two
    /// makes them dead letters twice, and the other order would lose them.
    pub(crate) fn finish(&self, spooled: &Spooled, rejections: &[(usize, Rejection)]) -> io::Result<()> {
        if !rejections.is_empty() {
            dead_letters::append(&self.dir, &spooled.batch, rejections)?;
            self.books.set_aside(recover::aside(&self.dir)?);
        }
        self.books.acknowledge(spooled.segment, spooled.batch.key());
        Ok(())
    }

    /// Is notified when there is more room.
    pub(crate) fn freed(&self) -> &Notify {
        self.books.freed()
    }

    pub(crate) fn usage(&self) -> Usage {
        self.books.usage()
    }

    /// Lets another process open the directory. The caller does not use it any more.
    pub(crate) fn release(&self) {
        self.lock.release();
    }
}

/// The lock of a directory, which the kernel releases however the process ends.
#[derive(Debug)]
struct Lock(File);

impl Lock {
    fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(files::LOCK);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|error| OpenError::Io { path: path.clone(), error })?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => Err(OpenError::Io { path, error }),
        }
    }

    /// To close the file would not be enough: a process that is being started has it open too for a moment.
    fn release(&self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of the spool cannot be released");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.release();
    }
}

fn create(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files::sync_dir(parent)
}
