//! Delivers a workload: sends it, waits until it is stored, and compares what is stored with what was sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::Store;
use crate::load::closed;
use crate::load::events::Workload;

/// How long no event may be stored, while some are missing, before the scenario fails.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The queries that read from a store what was received and stored.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Returns the counters: events received, unique, duplicates, and the sum of conflicts and dead
    /// letters, which must be 0. They are committed together with the rows, so that waiting for them is
    /// waiting for the rows.
    pub counted: String,
    /// Returns the number of rows, and three zeros, since [`Store::numbers`] reads four numbers.
    pub rows: String,
}

/// The counters of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// Events received.
    pub received: i64,
    /// Events stored.
    pub unique: i64,
    /// Events dropped as duplicates.
    pub duplicates: i64,
    /// Conflicts and dead letters, together.
    pub conflicts_and_dead_letters: i64,
}

/// How long a delivery took.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryTimes {
    /// From the first request until the last event was counted.
    pub seconds: f64,
    /// From the first request until the last was accepted.
    pub accepted_after: f64,
    /// How often a request was answered with 429 and sent again.
    pub refused: u64,
}

impl Expected {
    /// Returns the counters as they must be after this workload was delivered as well.
    pub fn and(self, workload: &Workload) -> Self {
        Self {
            received: self.received + workload.events as i64,
            unique: self.unique + workload.unique() as i64,
            duplicates: self.duplicates + workload.duplicates as i64,
            conflicts_and_dead_letters: self.conflicts_and_dead_letters,
        }
    }
}

impl Delivery {
    /// Returns the queries for a schema of Sluice in PostgreSQL.
    pub fn of_schema(schema: &str) -> Self {
        Self::of_sluice(&format!("\"{schema}\"."))
    }

    /// Returns the queries for Sluice's tables; the prefix (`"schema".`) is put before each table's name.
    pub fn of_sluice(prefix: &str) -> Self {
        let sum = |column: &str| format!("CAST(coalesce(sum({column}), 0) AS bigint)");
        let (received, unique) = (sum("received"), sum("unique_processed"));
        let (duplicates, conflicts, dead) = (sum("duplicate_dropped"), sum("conflicts"), sum("events"));
        Self {
            counted: format!(
                "SELECT {received}, {unique}, {duplicates}, {conflicts} + (SELECT {dead} FROM {prefix}dead_letters) \
                 FROM {prefix}counters"
            ),
            rows: format!("SELECT count(*), {ZEROS} FROM {prefix}events"),
        }
    }

    /// Returns the queries for the services that store one event per transaction, with the same prefix.
    pub fn of_service(prefix: &str) -> Self {
        Self {
            counted: format!(
                "SELECT received, unique_processed, duplicate_dropped, CAST(0 AS bigint) FROM {prefix}stats"
            ),
            rows: format!("SELECT count(*), {ZEROS} FROM {prefix}events"),
        }
    }

    /// Returns the queries for the service that stores a request in one transaction. Rows are counted only where the
    /// statistics of their topic are exact.
    pub fn of_batched_service(prefix: &str) -> Self {
        let sum = |column: &str| format!("CAST(coalesce(sum({column}), 0) AS bigint)");
        let (received, unique) = (sum("received"), sum("unique_processed"));
        Self {
            counted: format!(
                "SELECT {received}, {unique}, {}, CAST(0 AS bigint) FROM {prefix}stats",
                sum("duplicate_dropped")
            ),
            rows: format!(
                "SELECT {}, {ZEROS} FROM (SELECT topic, count(*) AS stored FROM {prefix}events GROUP BY topic) AS e \
                 JOIN {prefix}stats AS s ON s.topic = e.topic AND s.unique_processed = stored \
                     AND received = unique_processed + duplicate_dropped",
                sum("stored")
            ),
        }
    }

    /// Reads the counters.
    pub async fn now(&self, store: &mut Store) -> anyhow::Result<Expected> {
        let (received, unique, duplicates, conflicts_and_dead_letters) = store.numbers(&self.counted).await?;
        Ok(Expected { received, unique, duplicates, conflicts_and_dead_letters })
    }

    /// Sends a workload, and waits until the store has received as many events as are expected after it.
    pub async fn deliver(
        &self,
        store: &mut Store,
        address: &str,
        workload: &Arc<Workload>,
        connections: usize,
        expected: Expected,
    ) -> anyhow::Result<DeliveryTimes> {
        let started = Instant::now();
        let refused = closed::send(address, workload, connections).await?;
        let accepted_after = started.elapsed().as_secs_f64();
        self.wait(store, expected.received).await?;
        Ok(DeliveryTimes { seconds: started.elapsed().as_secs_f64(), accepted_after, refused })
    }

    /// Waits until the store has received `goal` events.
    ///
    /// # Errors
    /// If the number does not grow for 30 seconds.
    pub async fn wait(&self, store: &mut Store, goal: i64) -> anyhow::Result<()> {
        let first = self.now(store).await?.received;
        let (mut last, mut last_progress) = (first, Instant::now());
        loop {
            let now = self.now(store).await?.received;
            if now >= goal {
                return Ok(());
            }
            if now > last {
                (last, last_progress) = (now, Instant::now());
            } else if last_progress.elapsed() > STALL_TIMEOUT {
                bail!("{now} of {goal} events received, and no more for {STALL_TIMEOUT:?}");
            }
            // Seldom while the end is far, since each query costs CPU; then often, so that the time is exact.
            let far = now < goal - (goal - first) / 10;
            tokio::time::sleep(Duration::from_millis(if far { 50 } else { 2 })).await;
        }
    }

    /// Compares the counters and the number of rows with what is expected.
    ///
    /// # Errors
    /// If they differ.
    pub async fn check(&self, store: &mut Store, expected: Expected) -> anyhow::Result<()> {
        let counted = self.now(store).await?;
        ensure!(counted == expected, "not exact: {counted:?} instead of {expected:?}");
        let (rows, ..) = store.numbers(&self.rows).await?;
        ensure!(rows == expected.unique, "not exact: {rows} rows instead of {}", expected.unique);
        Ok(())
    }
}

const ZEROS: &str = "CAST(0 AS bigint), CAST(0 AS bigint), CAST(0 AS bigint)";
