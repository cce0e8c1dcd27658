//! The log in a SQLite file, for a whole system in one process.
//!
//! One task writes: it commits all waiting commands in one transaction (WAL, synchronous FULL: on disk)
//! and then replies. Therefore commands share commits, no writer finds the file busy, and a cancelled call
//! leaves no partial change. Reads use separate connections.
//!
//! There is one consumer, in this process. What is delivered and not acknowledged is remembered
//! in memory only: after a restart [`LogReader::read_new`] delivers all of it again, and
//! [`LogReader::read_own_pending`] has nothing to add.

mod check;
mod counters;
mod delivery;
mod error;
mod open;
mod settings;
mod space;
mod statements;
mod wal;
mod writer;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqlitePool;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout_at};

use crate::notice::{Board, Notice, NoticeRead, Tallies};
use crate::{
    Append, Appended, Backlog, Claimed, ConsumerInfo, Delivered, KeyedRequest, LogError, LogReader, LogWriter,
    Position, Pressure,
};
pub use check::find_damage;
pub use counters::counters;
use delivery::Deliveries;
pub use settings::SqliteSettings;
use space::Space;
use writer::Writer;

/// The name of the only consumer.
const CONSUMER: &str = "standalone";

/// The log in a SQLite file: writer and only reader.
pub struct SqliteLog {
    settings: SqliteSettings,
    writer: Writer,
    pool: SqlitePool,
    space: Space,
    deliveries: Arc<Deliveries>,
    appended: Arc<Notify>,
    /// Allows one read at a time, because each starts where the one before it ended.
    reading: Mutex<()>,
    /// The notice and the tallies. They are not stored: the only process that reads them is this one.
    board: std::sync::Mutex<Board>,
}

impl SqliteLog {
    /// Opens the log in a folder, and creates it if it is missing. Fails when another process (or
    /// another `SqliteLog`) has it open, and when its file was not closed and is damaged.
    pub async fn open(settings: SqliteSettings) -> Result<Self, LogError> {
        let lock = open::lock(&settings.folder)?;
        if let Some(damage) = find_damage(&open::file(&settings)).await? {
            return Err(LogError::Failed(damage));
        }
        let writing = open::writing(&settings).await?;
        let pool = open::reading(&settings).await?;
        let deliveries = Arc::new(Deliveries::default());
        let appended = Arc::new(Notify::new());
        let writer =
            Writer::start(writing, settings.idempotency_ttl, deliveries.clone(), appended.clone(), lock).await?;
        Ok(Self {
            settings,
            writer,
            pool,
            space: Space::default(),
            deliveries,
            appended,
            reading: Mutex::default(),
            board: std::sync::Mutex::default(),
        })
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the log: completes the writes in progress and releases the folder, which can then be opened again. Every
    /// later call fails.
    pub async fn close(&self) {
        self.pool.close().await;
        self.writer.close().await;
    }
}

#[async_trait]
impl LogWriter for SqliteLog {
    fn streams(&self) -> u16 {
        1
    }

    async fn append(&self, append: &Append) -> Result<Appended, LogError> {
        if append.stream != 0 {
            return Err(LogError::Failed(format!("there is no stream {}, only 0", append.stream)));
        }
        let appended = self.writer.append(append.clone()).await;
        self.space.observe(&appended);
        appended
    }

    async fn pressure(&self) -> Result<Pressure, LogError> {
        self.space.check()?;
        let backlog = Some(statements::outstanding(&self.pool).await?);
        let memory = match self.settings.max_bytes {
            Some(max) => Some(statements::used_bytes(&self.pool).await? as f64 / max.max(1) as f64),
            None => None,
        };
        Ok(Pressure { backlog, memory })
    }

    fn has_notices(&self) -> bool {
        true
    }

    async fn notice(&self, known: Option<&str>) -> Result<NoticeRead, LogError> {
        Ok(self.board().read(known))
    }

    async fn add_to_tallies(&self, tallies: &Tallies) -> Result<(), LogError> {
        self.board().add(tallies);
        Ok(())
    }

    async fn is_recorded(&self, _stream: u16, request: KeyedRequest) -> Result<bool, LogError> {
        statements::is_recorded(&self.pool, request).await
    }
}

#[async_trait]
impl LogReader for SqliteLog {
    async fn read_own_pending(&self, _after: Option<Position>, _entries: usize) -> Result<Vec<Delivered>, LogError> {
        Ok(Vec::new())
    }

    async fn read_new(&self, entries: usize, wait: Duration) -> Result<Vec<Delivered>, LogError> {
        let deadline = Instant::now() + wait;
        let Ok(_reading) = timeout_at(deadline, self.reading.lock()).await else {
            return Ok(Vec::new());
        };
        loop {
            let mut appended = std::pin::pin!(self.appended.notified());
            // From here on the notification of an append cannot be missed.
            appended.as_mut().enable();
            let read = statements::read_after(&self.pool, self.deliveries.last(), entries.max(1)).await?;
            self.deliveries.deliver(&read);
            if !read.is_empty() || timeout_at(deadline, appended).await.is_err() {
                return Ok(read);
            }
        }
    }

    async fn claim(&self, idle: Duration, entries: usize) -> Result<Claimed, LogError> {
        let (candidates, complete) = self.deliveries.idle(idle, entries);
        let mut claimed = Claimed { complete, ..Claimed::default() };
        for position in candidates {
            let entry = statements::read_one(&self.pool, position).await?;
            // An entry that was acknowledged in the meantime is neither claimed nor lost.
            if !self.deliveries.claim(position, idle) {
                continue;
            }
            match entry {
                Some(entry) => claimed.entries.push(entry),
                None => {
                    crate::metrics::entries_lost(&[position]);
                    self.deliveries.take(position);
                    claimed.lost.push(position);
                }
            }
        }
        Ok(claimed)
    }

    async fn extend_claim(&self, held: &[Position]) -> Result<(), LogError> {
        self.deliveries.extend_claim(held);
        Ok(())
    }

    async fn deliveries(&self, held: &[Position]) -> Result<Vec<u64>, LogError> {
        Ok(self.deliveries.times(held))
    }

    async fn acknowledge(&self, done: &[(Position, u64)]) -> Result<u64, LogError> {
        self.writer.acknowledge(done.to_vec()).await
    }

    /// Removes expired keys. Returns 0, because entries are removed when they are acknowledged.
    async fn trim(&self) -> Result<u64, LogError> {
        self.writer.forget_expired_keys().await?;
        Ok(0)
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        let events = statements::outstanding(&self.pool).await?;
        let (lag, oldest) = statements::undelivered(&self.pool, self.deliveries.last()).await?;
        Ok(Backlog { events: Some(events), lag: Some(lag), pending: self.deliveries.pending(), oldest })
    }

    async fn consumers(&self) -> Result<Vec<ConsumerInfo>, LogError> {
        let (pending, idle) = (self.deliveries.pending(), self.deliveries.since_read());
        Ok(vec![ConsumerInfo { name: CONSUMER.into(), pending, idle }])
    }

    async fn remove_departed(&self, _idle: Duration) -> Result<Vec<String>, LogError> {
        Ok(Vec::new())
    }

    async fn leave(&self) -> Result<bool, LogError> {
        Ok(self.deliveries.pending() == 0)
    }

    async fn notice_tag(&self) -> Result<Option<String>, LogError> {
        Ok(self.board().tag())
    }

    async fn replace_notice(&self, notice: &Notice, before: Option<&str>) -> Result<bool, LogError> {
        Ok(self.board().replace(notice, before))
    }

    async fn tallies(&self) -> Result<Tallies, LogError> {
        Ok(self.board().tallies())
    }

    async fn forget_tallies(&self, names: &[String]) -> Result<(), LogError> {
        self.board().forget(names);
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        self.writer.check().await
    }
}
