//! The single process of a standalone system is killed.

use std::path::Path;
use std::time::Duration;

use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, wait_until};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};

use crate::trial::{SOON, Trial};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_standalone_process_goes_on_where_it_was() {
    let mut trial = Trial::begin("kill -9 of the standalone process", Setup::new(Backend::Standalone)).await;
    let data = trial.system.dir.join("data");
    for round in 1..=6 {
        trial.carry_over().await;
        // Events that are accepted from now on are in the log and cannot be stored.
        let mut store = WriteLock::take(&data.join("store.db")).await;
        trial.load.more(500).await;
        let log = if round % 2 == 0 {
            // Some of them are stored, but cannot be acknowledged, so they are in both files.
            let mut log = WriteLock::take(&data.join("log.db")).await;
            let before = received(&trial).await;
            store.release().await;
            wait_until("events are stored and not acknowledged", SOON, || async {
                let now = received(&trial).await;
                holds(now > before, || format!("{now} events are received, as before"))
            })
            .await;
            trial.system.aggregators[0].kill();
            log.release().await;
            Some(log)
        } else {
            trial.system.aggregators[0].kill();
            store.release().await;
            None
        };
        let held = unacknowledged(&data.join("log.db")).await;
        let repeats = trial.load.repeats();
        let load = &trial.load;
        wait_until("clients get no response", SOON, || async {
            holds(load.repeats() > repeats, || format!("no request was repeated, {} in flight", load.in_flight()))
        })
        .await;
        trial.system.aggregators[0].start().await;
        // Not earlier: when the last connection is closed, SQLite moves the write-ahead log into the database,
        // and that must be done by the process under test.
        drop((store, log));
        trial.load.more(500).await;
        trial.fault(held);
    }
    let tally = trial.end().await;
    assert!(tally.repeats > 0, "{tally}");
    assert!(tally.skipped > 0, "what was stored already is skipped by its receipts: {tally}");
}

/// The write lock of a SQLite file. While it is held, the process under test has to wait.
#[derive(Debug)]
pub struct WriteLock(SqliteConnection);

impl WriteLock {
    async fn take(file: &Path) -> Self {
        Self::take_within(SOON, file).await.unwrap()
    }

    /// Takes the lock, for which it waits at most this long.
    pub async fn take_within(patience: Duration, file: &Path) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(patience);
        let mut connection = options.connect().await?;
        connection.execute("BEGIN IMMEDIATE").await?;
        Ok(Self(connection))
    }

    /// Releases the lock. The connection remains open.
    pub async fn release(&mut self) {
        self.0.execute("ROLLBACK").await.unwrap();
    }
}

/// Returns the number of events that are stored or dropped so far, according to the file.
async fn received(trial: &Trial) -> i64 {
    trial.system.reader().await.snapshot().await.unwrap().received
}

/// Returns the number of entries in the file of the log that the killed process had not acknowledged.
async fn unacknowledged(log: &Path) -> u64 {
    let mut connection = SqliteConnectOptions::new().filename(log).read_only(true).connect().await.unwrap();
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM entries").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    entries.cast_unsigned()
}
