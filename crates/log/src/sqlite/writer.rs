//! The task that writes: all waiting commands share one transaction.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::delivery::{Deliveries, Delivery};
use super::statements;
use crate::{Append, Appended, LogError, Position};

/// The maximum number of commands that wait, and so of those that share a transaction.
const QUEUE: usize = 256;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Expired keys are removed in steps, so that other commands can write in between.
const KEYS_PER_STEP: u32 = 1_000;

/// Sends commands to the task.
pub(super) struct Writer {
    commands: mpsc::Sender<Command>,
    /// `None` once the log is closed.
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Command {
    work: Work,
    answer: oneshot::Sender<Result<Done, LogError>>,
}

enum Work {
    Append(Append),
    Acknowledge(Vec<(Position, u64)>),
    ForgetExpiredKeys,
    Check,
    /// Later commands are refused.
    Close,
}

enum Done {
    Appended(Appended),
    Count(u64),
}

impl Writer {
    /// Starts the task. It holds the folder's lock until it has ended.
    pub async fn start(
        pool: SqlitePool,
        idempotency_ttl: Duration,
        deliveries: Arc<Deliveries>,
        appended: Arc<Notify>,
        lock: File,
    ) -> Result<Self, LogError> {
        let youngest = statements::youngest_millis(&pool).await?;
        let (commands, queue) = mpsc::channel(QUEUE);
        let task = Task { pool, idempotency_ttl, deliveries, appended, youngest };
        let task = tokio::spawn(async move {
            task.run(queue).await;
            drop(lock);
        });
        Ok(Self { commands, task: Mutex::new(Some(task)) })
    }

    pub async fn append(&self, append: Append) -> Result<Appended, LogError> {
        match self.send(Work::Append(append)).await? {
            Done::Appended(appended) => Ok(appended),
            Done::Count(_) => Err(LogError::Failed("the log's writer sent an unexpected result".into())),
        }
    }

    pub async fn acknowledge(&self, done: Vec<(Position, u64)>) -> Result<u64, LogError> {
        self.count(Work::Acknowledge(done)).await
    }

    /// Removes expired keys, at most 20 steps of them, so that housekeeping ends soon.
    pub async fn forget_expired_keys(&self) -> Result<(), LogError> {
        for _ in 0..20 {
            if self.count(Work::ForgetExpiredKeys).await? < u64::from(KEYS_PER_STEP) {
                break;
            }
        }
        Ok(())
    }

    /// Checks that the task is running and can access its file.
    pub async fn check(&self) -> Result<(), LogError> {
        self.count(Work::Check).await.map(drop)
    }

    /// Waits until the task has completed the commands that it has received, and has closed the file.
    pub async fn close(&self) {
        if let Err(error) = self.count(Work::Close).await {
            tracing::warn!(%error, "the log's writer does not close the file");
        }
        let Some(task) = self.task.lock().await.take() else { return };
        if let Err(error) = task.await {
            tracing::error!(%error, "the log's writer panicked");
        }
    }

    async fn count(&self, work: Work) -> Result<u64, LogError> {
        match self.send(work).await? {
            Done::Count(count) => Ok(count),
            Done::Appended(_) => Err(LogError::Failed("the log's writer sent an unexpected result".into())),
        }
    }

    async fn send(&self, work: Work) -> Result<Done, LogError> {
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            let ended = || LogError::Unavailable("the log's writer has ended".into());
            self.commands.send(Command { work, answer }).await.map_err(|_| ended())?;
            answered.await.map_err(|_| ended())?
        };
        let late = |_| LogError::Unavailable("writing to the log's file took too long".into());
        timeout(ANSWER_TIMEOUT, exchange).await.map_err(late)?
    }
}

struct Task {
    pool: SqlitePool,
    idempotency_ttl: Duration,
    deliveries: Arc<Deliveries>,
    appended: Arc<Notify>,
    /// The time of the newest entry. No entry gets an earlier time, also when the clock is set back.
    youngest: u64,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut commands = Vec::with_capacity(QUEUE);
        while queue.recv_many(&mut commands, QUEUE).await > 0 {
            // The caller of a cancelled command no longer waits for it.
            commands.retain(|command| !command.answer.is_closed());
            if commands.iter().any(|command| matches!(command.work, Work::Close)) {
                queue.close();
            }
            match self.commit(&commands).await {
                Ok(done) => answer(commands.drain(..), done),
                Err(_) if commands.len() > 1 => {
                    // One command failed: each is committed alone, so that the others succeed.
                    for command in commands.drain(..) {
                        let done = self.commit(std::slice::from_ref(&command)).await;
                        let done = done.and_then(|mut done| done.pop().ok_or_else(nothing_done));
                        // If the caller no longer waits, the result is dropped: it may repeat the command.
                        let _ = command.answer.send(done);
                    }
                }
                Err(error) => {
                    for command in commands.drain(..) {
                        let _ = command.answer.send(Err(error.clone()));
                    }
                }
            }
        }
        self.pool.close().await;
    }

    /// Commits the commands in one transaction, all or none.
    async fn commit(&mut self, commands: &[Command]) -> Result<Vec<Done>, LogError> {
        let mut taken = Vec::new();
        match self.transact(commands, &mut taken).await {
            Ok(done) => {
                if done.iter().any(|done| matches!(done, Done::Appended(Appended::Stored { .. }))) {
                    self.appended.notify_waiters();
                }
                Ok(done)
            }
            Err(error) => {
                for (position, held, _) in taken {
                    self.deliveries.restore(position, held);
                }
                Err(error)
            }
        }
    }

    async fn transact(
        &mut self,
        commands: &[Command],
        taken: &mut Vec<(Position, Delivery, u64)>,
    ) -> Result<Vec<Done>, LogError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.pool.acquire().await?;
        match self.work(&mut connection, commands, taken).await {
            Ok(done) => Ok(done),
            Err(error) => {
                // SQLite may or may not have rolled back already (it does when the disk is full). Closing the
                // connection ends the transaction in both cases.
                if let Err(error) = connection.close().await {
                    tracing::warn!(%error, "a connection to the log's file could not be closed");
                }
                Err(error)
            }
        }
    }

    async fn work(
        &mut self,
        connection: &mut SqliteConnection,
        commands: &[Command],
        taken: &mut Vec<(Position, Delivery, u64)>,
    ) -> Result<Vec<Done>, LogError> {
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let mut done = Vec::with_capacity(commands.len());
        for command in commands {
            done.push(match &command.work {
                Work::Append(append) => {
                    self.youngest = self.youngest.max(statements::now_millis());
                    let appended = statements::append(connection, append, self.youngest, self.idempotency_ttl).await?;
                    Done::Appended(appended)
                }
                Work::Acknowledge(entries) => {
                    // Removed from the entries in flight first, so that no claim finds an entry without a row.
                    let first = taken.len();
                    for (position, events) in entries {
                        if let Some(held) = self.deliveries.take(*position) {
                            taken.push((*position, held, *events));
                        }
                    }
                    let entries = taken[first..].iter().map(|(position, _, events)| (*position, *events));
                    Done::Count(statements::acknowledge(connection, entries).await?)
                }
                Work::ForgetExpiredKeys => {
                    Done::Count(statements::forget_expired_keys(connection, KEYS_PER_STEP).await?)
                }
                Work::Check | Work::Close => Done::Count(0),
            });
        }
        sqlx::raw_sql("COMMIT").execute(connection).await?;
        Ok(done)
    }
}

fn answer(commands: impl Iterator<Item = Command>, done: Vec<Done>) {
    for (command, done) in commands.zip(done) {
        // If the caller no longer waits, the result is dropped: it may repeat the command.
        let _ = command.answer.send(Ok(done));
    }
}

fn nothing_done() -> LogError {
    LogError::Failed("the log's writer returned no result".into())
}
