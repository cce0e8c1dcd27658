//! The baseline: raw binary COPY of the rows that Sluice stored, into an empty table with a `json` column and three
//! indexes. It shows the highest rate of PostgreSQL itself, without a publisher, Redis and an aggregator.
//!
//! The rows are read from Sluice's view of its events in the binary format and cut into batches before anything is
//! timed. So they are the same bytes, whatever the schema is, and sending them costs the client little.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use sluice_pgcopy::stream;
use sqlx::{Executor, PgConnection};
use tokio::task::JoinSet;

use crate::report::figures::{Figures, Group, RATE};
use crate::system::servers::Servers;
use crate::system::sluice::{BATCH_EVENTS, WORKERS};
use crate::watch::cpu::{Reading, Watched};
use crate::watch::space;

/// The rows of one COPY, and so of one transaction: as many as an aggregator stores in one.
pub const BATCH_ROWS: usize = BATCH_EVENTS;
/// The connections: as many as an aggregator has workers, each of which uses one.
pub const CONNECTIONS: usize = WORKERS;
/// The schema with the baseline's table.
const SCHEMA: &str = "baseline";

/// The rows to copy. The table for them is in the schema [`SCHEMA`].
#[derive(Debug)]
pub struct Baseline {
    rows: Rows,
}

/// Rows in the binary format, cut into batches.
#[derive(Debug)]
pub struct Rows {
    batches: Arc<Vec<Vec<u8>>>,
    count: u64,
}

impl Rows {
    /// Reads the rows of a table or a query: in the order of arrival, and
    /// within a batch in the order of the key, which is the order in which Sluice inserts.
    pub async fn read(connection: &mut PgConnection, from: &str, batch_rows: usize) -> anyhow::Result<Self> {
        let select = format!(
            "COPY (SELECT * FROM {from}
                   ORDER BY (row_number() OVER (ORDER BY seq) - 1) / {batch_rows}, key) TO STDOUT (FORMAT binary)"
        );
        let stored = copy_out(connection, &select).await.context("the rows that Sluice stored")?;
        let (batches, count) = stream::batches(&stored, batch_rows)?;
        Ok(Self { batches: Arc::new(batches), count: count as u64 })
    }

    /// Returns the batches, each of which is a stream of its own.
    pub fn batches(&self) -> &[Vec<u8>] {
        &self.batches
    }

    /// Copies all rows into `SCHEMA.events`, each batch in its own transaction.
    pub async fn copy(&self, servers: &Servers, schema: &str) -> anyhow::Result<()> {
        let statement = format!("COPY \"{schema}\".events FROM STDIN (FORMAT binary)");
        let next = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (batches, next, statement) = (self.batches.clone(), next.clone(), statement.clone());
            let mut connection: PgConnection = servers.postgres().await?;
            clients.spawn(async move {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    copy_in(&mut connection, &statement, batch).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(client) = clients.join_next().await {
            client.context("a client of COPY failed")??;
        }
        Ok(())
    }
}

/// The table that rows are copied into: that of Sluice before events lay in partitions. It stays as it is, so that
/// ratios of different versions can be compared.
const TABLE: &str = "CREATE SCHEMA baseline;
    CREATE TABLE baseline.events (
        key          uuid        PRIMARY KEY,
        seq          bigint      NOT NULL,
        ts           timestamptz NOT NULL,
        received_at  timestamptz NOT NULL,
        payload_hash uuid        NOT NULL,
        request_id   uuid        NOT NULL,
        topic        text        NOT NULL,
        event_id     text        NOT NULL,
        source       text,
        payload      json        NOT NULL
    );
    CREATE INDEX ON baseline.events (seq);
    CREATE INDEX ON baseline.events (topic, seq)";

impl Baseline {
    /// Reads the rows of `SCHEMA.events`, and creates an empty table for them.
    pub async fn of(servers: &Servers, schema: &str) -> anyhow::Result<Self> {
        let mut connection = servers.postgres().await?;
        let rows = Rows::read(&mut connection, &format!("\"{schema}\".events"), BATCH_ROWS).await?;
        connection.execute(TABLE).await.context("the table for COPY")?;
        Ok(Self { rows })
    }

    /// Copies all rows into the empty table, and measures it.
    ///
    /// # Errors
    /// If PostgreSQL fails, or the table does not have all rows afterwards.
    pub async fn run(&self, servers: &Servers) -> anyhow::Result<Figures> {
        let mut connection = servers.postgres().await?;
        connection.execute("TRUNCATE baseline.events").await?;
        servers.checkpoint().await?;
        let watched = watched(servers);

        let wal = space::wal_position(&mut connection).await?;
        let before = Reading::of(&watched)?;
        let started = Instant::now();
        self.rows.copy(servers, SCHEMA).await?;
        let seconds = started.elapsed().as_secs_f64();
        let spent = Reading::of(&watched)?.since(&before);

        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM baseline.events").fetch_one(&mut connection).await?;
        ensure!(rows as u64 == self.rows.count, "COPY stored {rows} rows of {}", self.rows.count);
        let mut figures = Figures::default();
        figures.add(Group::Rate, RATE, self.rows.count as f64 / seconds / 1000.0);
        spent.report(&mut figures, &watched, self.rows.count);
        space::measure(&mut figures, &mut connection, SCHEMA, self.rows.count, wal).await?;
        Ok(figures)
    }
}

fn watched(servers: &Servers) -> Vec<Watched> {
    vec![Watched::postgres(servers), Watched::ourselves()]
}

/// Returns all that a `COPY … TO STDOUT (FORMAT binary)` sends.
async fn copy_out(connection: &mut PgConnection, statement: &str) -> anyhow::Result<Vec<u8>> {
    let mut chunks = connection.copy_out_raw(statement).await?;
    let mut all = Vec::new();
    while let Some(chunk) = std::future::poll_fn(|cx| chunks.as_mut().poll_next(cx)).await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

/// Runs one `COPY … FROM STDIN (FORMAT binary)`, which is committed when this returns.
pub async fn copy_in(connection: &mut PgConnection, statement: &str, batch: &[u8]) -> anyhow::Result<()> {
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(batch).await?;
    copy.finish().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_baseline_copies_exactly_the_stored_rows_into_its_table() {
        let servers = Servers::start().await.unwrap();
        let mut connection = servers.postgres().await.unwrap();
        let stored = "
            CREATE SCHEMA stored;
            CREATE VIEW stored.events AS
            SELECT md5(n::text)::uuid AS key, n::int8 AS seq, timestamptz '2026-01-01' AS ts,
                   timestamptz '2026-01-02' AS received_at,
                   md5(n::text)::uuid AS payload_hash, md5('r')::uuid AS request_id, 'topic ' || n % 5 AS topic,
                   n::text AS event_id, CASE WHEN n % 2 = 0 THEN 'a' END AS source, json_build_object('n', n) AS payload
            FROM generate_series(1, 6000) n";
        connection.execute(stored).await.unwrap();
        let baseline = Baseline::of(&servers, "stored").await.unwrap();
        assert_eq!((baseline.rows.count, baseline.rows.batches.len()), (6000, 3));

        for _ in 0..2 {
            let figures = baseline.run(&servers).await.unwrap();
            let different = "
                SELECT count(*) FROM stored.events s FULL JOIN baseline.events b USING (key)
                WHERE (s.*)::text IS DISTINCT FROM (b.*)::text";
            let different: i64 = sqlx::query_scalar(different).fetch_one(&mut connection).await.unwrap();
            assert_eq!(different, 0);
            for index in ["index btree (key)", "index btree (topic, seq)", "heap", "WAL"] {
                let bytes = figures.get(Group::Postgres, index);
                assert!(bytes.is_some_and(|bytes| bytes > 10.0), "{index}: {bytes:?} of {figures:?}");
            }
            assert_eq!(figures.get(Group::Postgres, "receipts, counters, …"), None);
        }
    }
}
