//! One delivery of a workload: sent, waited for, and compared with what must be stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::Store;
use crate::load::closed;
use crate::load::events::Workload;

/// How long the store may stand still before the block has failed.
const STALLED: Duration = Duration::from_secs(30);

/// Where the numbers of a store are found.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// A query for the numbers counted: received, unique, duplicates, and what was put aside or
    /// conflicted, which must be 0. Committed with the rows, so that reading it is enough.
    pub counted: String,
    /// A query for the number of rows (and three more numbers that don't matter).
    pub rows: String,
}

/// The numbers of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// Events received.
    pub received: i64,
    /// Events stored.
    pub unique: i64,
    /// Events dropped as duplicates.
    pub duplicates: i64,
    /// Conflicts and dead letters.
    pub odd: i64,
}

/// How long a delivery took.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// From the first request until the last event was counted.
    pub seconds: f64,
    /// From the first request until the last was accepted.
    pub accepted_after: f64,
    /// Requests that were refused with 429, and sent again.
    pub refused: u64,
}

impl Expected {
    /// These numbers after a workload was delivered too.
    pub fn and(self, workload: &Workload) -> Self {
        Self {
            received: self.received + workload.events as i64,
            unique: self.unique + workload.unique() as i64,
            duplicates: self.duplicates + workload.duplicates as i64,
            odd: self.odd,
        }
    }
}

impl Delivery {
    /// Of a schema of Sluice in PostgreSQL.
    pub fn of_schema(schema: &str) -> Self {
        Self::of_sluice(&format!("\"{schema}\"."))
    }

    /// Of Sluice's tables under a prefix.
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

    /// Of the services that store each event for itself.
    pub fn of_service(prefix: &str) -> Self {
        Self {
            counted: format!(
                "SELECT received, unique_processed, duplicate_dropped, CAST(0 AS bigint) FROM {prefix}stats"
            ),
            rows: format!("SELECT count(*), {ZEROS} FROM {prefix}events"),
        }
    }

    /// What is counted now.
    pub async fn now(&self, store: &mut Store) -> anyhow::Result<Expected> {
        let (received, unique, duplicates, odd) = store.numbers(&self.counted).await?;
        Ok(Expected { received, unique, duplicates, odd })
    }

    /// Sends a workload, and waits until as many events are received as are expected then.
    pub async fn deliver(
        &self,
        store: &mut Store,
        address: &str,
        workload: &Arc<Workload>,
        connections: usize,
        expected: Expected,
    ) -> anyhow::Result<Course> {
        let started = Instant::now();
        let refused = closed::send(address, workload, connections).await?;
        let accepted_after = started.elapsed().as_secs_f64();
        self.wait(store, expected.received).await?;
        Ok(Course { seconds: started.elapsed().as_secs_f64(), accepted_after, refused })
    }

    /// Waits until so many events are received.
    pub async fn wait(&self, store: &mut Store, goal: i64) -> anyhow::Result<()> {
        let first = self.now(store).await?.received;
        let (mut last, mut moved) = (first, Instant::now());
        loop {
            let now = self.now(store).await?.received;
            if now >= goal {
                return Ok(());
            }
            if now > last {
                (last, moved) = (now, Instant::now());
            } else if moved.elapsed() > STALLED {
                bail!("{now} of {goal} events received, and no more for {STALLED:?}");
            }
            // Rarely while far from the end, then often enough for the time to be exact.
            let far = now < goal - (goal - first) / 10;
            tokio::time::sleep(Duration::from_millis(if far { 50 } else { 2 })).await;
        }
    }

    /// Fails unless the store holds just what is expected.
    pub async fn check(&self, store: &mut Store, expected: Expected) -> anyhow::Result<()> {
        let counted = self.now(store).await?;
        ensure!(counted == expected, "not exact: {counted:?} instead of {expected:?}");
        let (rows, ..) = store.numbers(&self.rows).await?;
        ensure!(rows == expected.unique, "not exact: {rows} rows instead of {}", expected.unique);
        Ok(())
    }
}

const ZEROS: &str = "CAST(0 AS bigint), CAST(0 AS bigint), CAST(0 AS bigint)";
