//! One of the two systems: it gets the load for a time, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::sync::Semaphore;

use crate::load::endless::{self, PER_REQUEST, Template};
use crate::report::figures::{Figures, Group, RATE};
use crate::scenarios::{Context, Delivery, Expected, Store};
use crate::system::servers::Servers;
use crate::system::sluice::Sluice;
use crate::watch::cpu::{Reading, Watched};
use crate::watch::memory;

/// The requests that are sent and not stored yet: so many that a backlog is always there, but soon stored when the load
/// ends. More would be refused with 429 and sent again, which is not measured here.
const BACKLOG_REQUESTS: u64 = 2_000;
/// The time from one look at the counters to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The time from one sample to the next.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// A system with the numbers that its tables must have.
#[derive(Debug)]
pub struct Side<'a> {
    servers: &'a Servers,
    connections: usize,
    sluice: Sluice,
    store: Store,
    delivery: Delivery,
    template: Arc<Template>,
    /// The number of the next request.
    next: Arc<AtomicU64>,
}

/// What was stored at one time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// The events that are stored.
    pub rows: u64,
    /// The events that retention has removed so far.
    pub removed: u64,
    /// The size of the whole schema.
    pub bytes: u64,
}

/// What was measured while the system had the load.
#[derive(Debug)]
pub struct Loaded {
    /// The rate, the CPU time and the memory.
    pub figures: Figures,
    /// New events in a second.
    pub rows_per_second: f64,
    /// What was stored from second to second, and in the end.
    pub samples: Vec<Sample>,
}

impl Sample {
    /// Reads what is stored now.
    async fn now(store: &mut Store, schema: &str) -> anyhow::Result<Self> {
        let query = format!(
            "SELECT CAST(coalesce(sum(unique_processed), 0) AS bigint), {removed}, \
                 (SELECT CAST(sum(pg_total_relation_size(oid)) AS bigint) FROM pg_class \
                  WHERE relnamespace = '\"{schema}\"'::regnamespace AND relkind = 'r'), CAST(0 AS bigint) \
             FROM \"{schema}\".counters",
            removed = removed(schema),
        );
        let (unique, removed, bytes, _) = store.numbers(&query).await?;
        let number = |value: i64| value.cast_unsigned();
        Ok(Self { rows: number(unique - removed), removed: number(removed), bytes: number(bytes) })
    }

    /// Returns the size of the whole schema in MiB.
    pub fn mib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20)
    }
}

impl<'a> Side<'a> {
    /// Starts a publisher and an aggregator with further options for the latter, on an empty schema.
    pub async fn start(
        context: &'a Context,
        template: &Arc<Template>,
        name: &str,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let servers = &context.servers;
        let sluice = Sluice::start_with_both(servers, name, 1, &[], options).await?;
        Ok(Self {
            servers,
            connections: context.connections,
            store: Store::Postgres(servers.postgres().await?),
            delivery: Delivery::of_schema(name),
            sluice,
            template: template.clone(),
            next: Arc::default(),
        })
    }

    /// Sends requests until `is_over`, which gets the latest sample, and waits until all of them are stored.
    ///
    /// # Errors
    /// If a request is not accepted, or the counters are not exact in the end.
    pub async fn load(&mut self, is_over: impl Fn(&Sample) -> bool) -> anyhow::Result<Loaded> {
        let mut watched = self.sluice.processes();
        watched.extend([Watched::redis(self.servers), Watched::postgres(self.servers), Watched::ourselves()]);
        let already = self.expected();
        let before = Reading::of(&watched)?;
        let started = Instant::now();
        let samples = self.send(already, is_over).await?;
        let seconds = started.elapsed().as_secs_f64();
        let spent = Reading::of(&watched)?.since(&before);

        let (expected, counted) = (self.expected(), self.delivery.now(&mut self.store).await?);
        ensure!(counted == expected, "not exact: {counted:?} instead of {expected:?}");
        let events = expected.received - already.received;
        let mut figures = Figures::default();
        figures.add(Group::Rate, RATE, events as f64 / 1000.0 / seconds);
        spent.report(&mut figures, &watched, events as u64);
        for program in self.sluice.processes() {
            figures.add(Group::Resident, program.name, memory::peak_mib(&program)?);
        }
        let rows_per_second = (expected.unique - already.unique) as f64 / seconds;
        Ok(Loaded { figures, rows_per_second, samples })
    }

    /// Permits as many requests as are stored, and some more for the backlog.
    async fn send(&mut self, already: Expected, is_over: impl Fn(&Sample) -> bool) -> anyhow::Result<Vec<Sample>> {
        let permits = Arc::new(Semaphore::new(BACKLOG_REQUESTS as usize));
        let (address, template, next) = (self.sluice.address.clone(), self.template.clone(), self.next.clone());
        let (permitted, connections) = (permits.clone(), self.connections);
        let sending =
            tokio::spawn(async move { endless::send(&address, &template, &next, &permitted, connections).await });
        let mut samples = vec![Sample::now(&mut self.store, &self.sluice.name).await?];
        let (mut sampled, mut granted) = (Instant::now(), 0);
        while !sending.is_finished() && !samples.last().is_some_and(&is_over) {
            tokio::time::sleep(POLL_INTERVAL).await;
            let received = self.delivery.now(&mut self.store).await?.received - already.received;
            let stored = received.cast_unsigned() / PER_REQUEST as u64;
            permits.add_permits((stored - granted) as usize);
            granted = stored;
            if sampled.elapsed() >= SAMPLE_INTERVAL {
                samples.push(Sample::now(&mut self.store, &self.sluice.name).await?);
                sampled = Instant::now();
            }
        }
        permits.close();
        sending.await.context("the task of the load failed")??;
        let received = self.expected().received;
        self.delivery.wait(&mut self.store, received).await?;
        samples.push(Sample::now(&mut self.store, &self.sluice.name).await?);
        Ok(samples)
    }

    /// Returns the counters as they must be once all is stored that was sent.
    fn expected(&self) -> Expected {
        let requests = self.next.load(Ordering::Relaxed);
        let (received, unique) = (requests * PER_REQUEST as u64, self.template.unique_in(requests));
        Expected {
            received: received.cast_signed(),
            unique: unique.cast_signed(),
            duplicates: (received - unique).cast_signed(),
            conflicts_and_dead_letters: 0,
        }
    }

    /// Counts the rows, and stops the system: those that are there, and those that retention has removed, must be the
    /// events that were stored. Removes the schema.
    ///
    /// # Errors
    /// If `measured` is an error: then the end of each program's log is added to it. If the numbers are not exact.
    pub async fn finish<T>(mut self, measured: anyhow::Result<T>) -> anyhow::Result<T> {
        let (name, unique) = (self.sluice.name.clone(), self.expected().unique);
        let checked = match measured {
            Ok(measured) => check_rows(&mut self.store, &name, unique).await.map(|()| measured),
            Err(error) => Err(error),
        };
        let measured = self.sluice.finish(checked).await?;
        self.servers.drop_schema(&name).await?;
        Ok(measured)
    }
}

/// Compares the rows that are there and those that retention has removed with the events that were stored.
async fn check_rows(store: &mut Store, schema: &str, unique: i64) -> anyhow::Result<()> {
    // In one query, so that nothing is removed between reading the two numbers.
    let query =
        format!("SELECT count(*), {}, CAST(0 AS bigint), CAST(0 AS bigint) FROM \"{schema}\".events", removed(schema));
    let (rows, removed, ..) = store.numbers(&query).await?;
    ensure!(rows + removed == unique, "not exact: {rows} rows and {removed} removed ones instead of {unique}");
    Ok(())
}

/// Returns the expression for the number of events that retention has removed.
fn removed(schema: &str) -> String {
    format!("coalesce((SELECT CAST(value AS bigint) FROM \"{schema}\".settings WHERE name = 'removed_events'), 0)")
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_and_removed_ones_are_counted_together_and_none_may_be_missing() {
        let servers = Servers::start().await.unwrap();
        let mut connection = servers.postgres().await.unwrap();
        let tables = "
            CREATE SCHEMA aged;
            CREATE TABLE aged.counters (unique_processed bigint);
            CREATE TABLE aged.settings (name text, value text);
            CREATE TABLE aged.events AS SELECT n FROM generate_series(1, 60) n";
        connection.execute(tables).await.unwrap();
        let mut store = Store::Postgres(servers.postgres().await.unwrap());
        let first = Sample::now(&mut store, "aged").await.unwrap();
        assert_eq!((first.rows, first.removed), (0, 0), "before anything was stored or removed");
        assert!(first.bytes >= 8192, "{first:?}");

        let removed =
            "INSERT INTO aged.counters VALUES (70), (30); INSERT INTO aged.settings VALUES ('removed_events', 40)";
        connection.execute(removed).await.unwrap();
        let later = Sample::now(&mut store, "aged").await.unwrap();
        assert_eq!((later.rows, later.removed), (60, 40));
        check_rows(&mut store, "aged", 100).await.unwrap();
        connection.execute("DELETE FROM aged.events WHERE n = 7").await.unwrap();
        let error = check_rows(&mut store, "aged", 100).await.unwrap_err();
        assert!(error.to_string().contains("59 rows and 40 removed ones instead of 100"), "{error:#}");
    }
}
