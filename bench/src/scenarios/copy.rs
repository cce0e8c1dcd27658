//! The baselines: raw binary COPY of the rows that Sluice stored, into an empty table. They show the highest rate of
//! PostgreSQL itself, without a publisher, Redis and an aggregator.
//!
//! One table is like that which Sluice writes to, so it follows the schema. The other one has a `json` column and three
//! indexes, as Sluice's had before events lay in partitions. It stays as it is, so that ratios of different versions can be
//! compared.
//!
//! The rows are read from what Sluice stored in the binary format and cut into batches before anything is
//! timed. So they are the same bytes, whatever the schema is, and sending them costs the client little.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use sluice_pgcopy::stream;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::task::JoinSet;

use crate::report::figures::{Figures, Group, RATE};
use crate::system::servers::Servers;
use crate::system::sluice::{BATCH_EVENTS, WORKERS};
use crate::system::tables;
use crate::watch::cpu::{Reading, Watched};
use crate::watch::space;

/// The rows of one COPY, and so of one transaction: as many as an aggregator stores in one.
pub const BATCH_ROWS: usize = BATCH_EVENTS;
/// The connections: as many as an aggregator has workers, each of which uses one.
pub const CONNECTIONS: usize = WORKERS;

/// A table in a schema of its own, and the rows to copy into it.
#[derive(Debug)]
pub struct Baseline {
    schema: &'static str,
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

    /// Returns the first and the second half of the batches.
    pub fn halves(&self) -> anyhow::Result<[Self; 2]> {
        let (first, second) = self.batches.split_at(self.batches.len() / 2);
        let rows = |batches: &[Vec<u8>]| {
            let rows = |batch: &Vec<u8>| Ok(stream::batches(batch, BATCH_ROWS)?.1);
            let count = batches.iter().map(rows).sum::<anyhow::Result<usize>>()?;
            anyhow::Ok(Self { batches: Arc::new(batches.to_vec()), count: count as u64 })
        };
        Ok([rows(first)?, rows(second)?])
    }

    /// Measures, after a checkpoint, how all rows are copied into `SCHEMA.events`.
    ///
    /// # Errors
    /// If PostgreSQL fails, or the table does not have so many more rows afterwards.
    pub async fn measure(&self, servers: &Servers, schema: &str) -> anyhow::Result<Figures> {
        let mut connection = servers.postgres().await?;
        servers.checkpoint().await?;
        let watched = [Watched::postgres(servers), Watched::ourselves()];
        let had = count(&mut connection, schema).await?;

        let wal = space::wal_position(&mut connection).await?;
        let before = Reading::of(&watched)?;
        let started = Instant::now();
        self.copy(servers, schema).await?;
        let seconds = started.elapsed().as_secs_f64();
        let spent = Reading::of(&watched)?.since(&before);

        let rows = count(&mut connection, schema).await? - had;
        ensure!(rows == self.count, "COPY stored {rows} rows of {}", self.count);
        let mut figures = Figures::default();
        figures.add(Group::Rate, RATE, self.count as f64 / seconds / 1000.0);
        spent.report(&mut figures, &watched, self.count);
        space::measure(&mut figures, &mut connection, schema, (had + self.count, self.count), wal).await?;
        Ok(figures)
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

/// The columns and indexes of the fixed table, in the schema `fixed`.
const FIXED: &str = "CREATE TABLE fixed.events (
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
    CREATE INDEX ON fixed.events (seq);
    CREATE INDEX ON fixed.events (topic, seq)";

impl Baseline {
    /// Reads the rows of `SCHEMA.events`, which users see, and creates the fixed table for them.
    pub async fn fixed(servers: &Servers, schema: &str) -> anyhow::Result<Self> {
        let mut connection = servers.postgres().await?;
        let rows = Rows::read(&mut connection, &format!("\"{schema}\".events"), BATCH_ROWS).await?;
        servers.create_schema("fixed").await?;
        connection.execute(FIXED).await.context("the fixed table for COPY")?;
        Ok(Self { schema: "fixed", rows })
    }

    /// Reads the rows of the open partition of a schema of Sluice, and creates a table like it for them.
    pub async fn present(servers: &Servers, schema: &str) -> anyhow::Result<Self> {
        let mut connection = servers.postgres().await?;
        let stored = tables::open_partition(&mut connection, schema).await?;
        let rows = Rows::read(&mut connection, &stored, BATCH_ROWS).await?;
        servers.create_schema("present").await?;
        tables::create_like(&mut connection, "present.events", &stored).await?;
        Ok(Self { schema: "present", rows })
    }

    /// Copies all rows into the empty table, and measures it.
    ///
    /// # Errors
    /// If PostgreSQL fails, or the table does not have all rows afterwards.
    pub async fn run(&self, servers: &Servers) -> anyhow::Result<Figures> {
        let mut connection = servers.postgres().await?;
        connection.execute(AssertSqlSafe(format!("TRUNCATE {}.events", self.schema))).await?;
        self.rows.measure(servers, self.schema).await
    }
}

async fn count(connection: &mut PgConnection, schema: &str) -> anyhow::Result<u64> {
    let count = AssertSqlSafe(format!("SELECT count(*) FROM {schema}.events"));
    let rows: i64 = sqlx::query_scalar(count).fetch_one(connection).await?;
    Ok(rows.cast_unsigned())
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

    /// As many rows as need three batches, in a partition and in a view of it as Sluice has them.
    const STORED: &str = "
        CREATE SCHEMA stored;
        CREATE TABLE stored.event_partitions AS SELECT 7 AS number, NULL::timestamptz AS closed_at;
        CREATE TABLE stored.event_rows_7 (
            key uuid PRIMARY KEY, seq bigint, ts timestamptz, received_at timestamptz, payload_hash uuid, request_id uuid,
            topic text COMPRESSION lz4, event_id text, source text, payload text NOT NULL
        ) WITH (fillfactor = 90);
        CREATE INDEX ON stored.event_rows_7 (topic, seq);
        INSERT INTO stored.event_rows_7
        SELECT md5(n::text)::uuid, n, '2026-01-01', '2026-01-02', md5(n::text)::uuid, md5('r')::uuid, 'topic ' || n % 5,
               n, CASE WHEN n % 2 = 0 THEN 'a' END, json_build_object('n', n)
        FROM generate_series(1, 6000) n;
        CREATE VIEW stored.events AS
        SELECT key, seq, ts, received_at, payload_hash, request_id, topic, event_id, source, payload::json AS payload
        FROM stored.event_rows_7";

    #[tokio::test(flavor = "multi_thread")]
    async fn each_baseline_copies_exactly_the_stored_rows_into_its_table() {
        let servers = Servers::start().await.unwrap();
        let mut connection = servers.postgres().await.unwrap();
        connection.execute(STORED).await.unwrap();
        let fixed = Baseline::fixed(&servers, "stored").await.unwrap();
        let present = Baseline::present(&servers, "stored").await.unwrap();
        let indexes_of_fixed = ["index btree (key)", "index btree (seq)", "index btree (topic, seq)"];
        let indexes_of_present = ["index btree (key)", "index btree (topic, seq)"];
        for (baseline, indexes) in [(fixed, &indexes_of_fixed[..]), (present, &indexes_of_present)] {
            assert_eq!((baseline.rows.count, baseline.rows.batches.len()), (6000, 3));
            for _ in 0..2 {
                let figures = baseline.run(&servers).await.unwrap();
                let different = format!(
                    "SELECT count(*) FROM stored.events s FULL JOIN {}.events b USING (key)
                     WHERE (s.*)::text IS DISTINCT FROM (b.*)::text",
                    baseline.schema
                );
                let different = sqlx::query_scalar::<_, i64>(AssertSqlSafe(different));
                assert_eq!(different.fetch_one(&mut connection).await.unwrap(), 0);
                let measured: Vec<&str> = figures
                    .0
                    .iter()
                    .filter(|figure| figure.group == Group::Postgres)
                    .map(|figure| figure.name.as_str())
                    .collect();
                assert_eq!(measured.len(), indexes.len() + 2, "the heap, the WAL and the indexes alone: {measured:?}");
                for relation in indexes.iter().chain(&["heap", "WAL"]) {
                    let bytes = figures.get(Group::Postgres, relation);
                    assert!(bytes.is_some_and(|bytes| bytes > 10.0), "{relation}: {bytes:?} of {figures:?}");
                }
            }
        }
        let parameters: Vec<String> =
            sqlx::query_scalar("SELECT unnest(reloptions) FROM pg_class WHERE oid = 'present.events'::regclass")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        assert_eq!(parameters, ["fillfactor=90"]);
    }
}
