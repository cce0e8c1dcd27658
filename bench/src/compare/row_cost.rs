//! What the parts of a stored row cost: COPY of the rows that Sluice stored into variants of its table, in turn.
//!
//! Most variants are empty tables, as they are after a partition was opened. Those of the log's compression have half of
//! the rows already, and a checkpoint comes before the other half: then whole pages are logged.

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::measured::Measured;
use crate::load::events::{Workload, WorkloadSpec};
use crate::plan::ComparePlan;
use crate::report::figures::{Group, RATE};
use crate::scenarios::copy::{BATCH_ROWS, Rows};
use crate::scenarios::end_to_end;
use crate::system::servers::Servers;
use crate::system::tables;

/// The schema of the variant that is measured.
const SCHEMA: &str = "variant";

/// A table that differs from that of Sluice in one respect.
struct Variant {
    name: &'static str,
    /// The indexes that it does not have: those whose definition contains one of these.
    without: &'static [&'static str],
    /// The statements that change it afterwards.
    changes: &'static str,
    /// What is selected as the rows, if not all columns.
    columns: &'static str,
    /// A value of `wal_compression`. Then the table is half full.
    compression: Option<&'static str>,
}

impl Variant {
    const fn new(name: &'static str, without: &'static [&'static str], changes: &'static str) -> Self {
        Self { name, without, changes, columns: "*", compression: None }
    }

    const fn compressed(name: &'static str, compression: &'static str) -> Self {
        Self { compression: Some(compression), ..Self::new(name, &[], "") }
    }
}

const KEY: &str = "(key)";
const SEQ: &str = "btree (seq)";
const TOPIC: &str = "hashtext(topic)";
const WITHOUT_REQUEST_ID: &str = "key, seq, ts, received_at, payload_hash, topic, event_id, source, payload";
const WITH_JSONB: &str =
    "key, seq, ts, received_at, payload_hash, request_id, topic, event_id, source, payload::jsonb AS payload";

const VARIANTS: [Variant; 14] = [
    Variant::new("as it is", &[], ""),
    Variant::new("payload json", &[], "ALTER TABLE variant.events ALTER payload TYPE json USING payload::json"),
    Variant {
        columns: WITH_JSONB,
        ..Variant::new("payload jsonb", &[], "ALTER TABLE variant.events ALTER payload TYPE jsonb USING payload::jsonb")
    },
    Variant::new("index on (topic, seq)", &[TOPIC], "CREATE INDEX ON variant.events (topic, seq)"),
    Variant::new("no index on topics", &[TOPIC], ""),
    Variant::new("no index on seq", &[SEQ], ""),
    Variant::new("BRIN instead of the index on seq", &[SEQ], "CREATE INDEX ON variant.events USING brin (seq)"),
    Variant::new("key without the payload's hash", &[KEY], "ALTER TABLE variant.events ADD PRIMARY KEY (key)"),
    Variant::new("the index of the key alone", &[SEQ, TOPIC], ""),
    Variant::new("no index", &[KEY, SEQ, TOPIC], ""),
    Variant {
        columns: WITHOUT_REQUEST_ID,
        ..Variant::new("no request_id", &[], "ALTER TABLE variant.events DROP COLUMN request_id")
    },
    Variant::compressed("half full, wal_compression off", "off"),
    Variant::compressed("half full, wal_compression pglz", "pglz"),
    Variant::compressed("half full, wal_compression lz4", "lz4"),
];

/// Measures all variants. Returns a table.
///
/// # Errors
/// If something cannot be measured, or rows are missing afterwards.
pub async fn run(plan: ComparePlan) -> anyhow::Result<String> {
    let servers = Servers::start().await?;
    let workload = Workload::render(WorkloadSpec::new(plan.events, 0)).into();
    end_to_end::run_and_leave_schema(&servers, &workload, plan.connections, 1, "stored").await?;
    let names = VARIANTS.iter().map(|variant| variant.name).collect();
    let columns = [
        ("k rows/s", Group::Rate),
        ("CPU of PostgreSQL, µs", Group::Cpu),
        ("WAL, bytes", Group::Postgres),
        ("stored, bytes", Group::Postgres),
    ];
    let mut measured = Measured::new(names, columns, plan.rounds);
    for (round, which) in measured.order() {
        measured.add(round, which, measure(&servers, &VARIANTS[which]).await)?;
    }
    Ok(measured.table("table"))
}

/// Returns the rate, and for each row PostgreSQL's CPU time, the bytes of the log and those that are stored.
async fn measure(servers: &Servers, variant: &Variant) -> anyhow::Result<[f64; 4]> {
    let mut connection = servers.postgres().await?;
    let stored = tables::open_partition(&mut connection, "stored").await?;
    servers.drop_schema(SCHEMA).await?;
    servers.create_schema(SCHEMA).await?;
    tables::create_like(&mut connection, "variant.events", &stored).await?;
    drop_indexes(&mut connection, variant.without).await?;
    connection.execute(variant.changes).await?;
    let mut rows =
        Rows::read(&mut connection, &format!("(SELECT {} FROM {stored}) AS r", variant.columns), BATCH_ROWS).await?;
    if let Some(compression) = variant.compression {
        set_compression(&mut connection, &format!("= {compression}")).await?;
        let [first, second] = rows.halves()?;
        first.copy(servers, SCHEMA).await?;
        rows = second;
    }
    let figures = rows.measure(servers, SCHEMA).await;
    set_compression(&mut connection, "TO DEFAULT").await?;
    let figures = figures?;
    let get = |group, name: &str| figures.get(group, name).with_context(|| format!("no figure {name}"));
    let bytes = figures.0.iter().filter(|figure| figure.group == Group::Postgres && figure.name != "WAL");
    Ok([
        get(Group::Rate, RATE)?,
        get(Group::Cpu, "PostgreSQL")?,
        get(Group::Postgres, "WAL")?,
        bytes.map(|figure| figure.value).sum(),
    ])
}

async fn drop_indexes(connection: &mut PgConnection, without: &[&str]) -> anyhow::Result<()> {
    let indexes: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisprimary \
         FROM pg_index WHERE indrelid = 'variant.events'::regclass",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (name, definition, is_primary) in indexes {
        if without.iter().any(|part| definition.contains(part)) {
            let drop = if is_primary {
                "ALTER TABLE variant.events DROP CONSTRAINT events_pkey".to_owned()
            } else {
                format!("DROP INDEX {name}")
            };
            connection.execute(AssertSqlSafe(drop)).await?;
        }
    }
    Ok(())
}

/// Sets `wal_compression` of all later sessions.
async fn set_compression(connection: &mut PgConnection, value: &str) -> anyhow::Result<()> {
    let user: String = sqlx::query_scalar("SELECT quote_ident(current_user)").fetch_one(&mut *connection).await?;
    connection.execute(AssertSqlSafe(format!("ALTER ROLE {user} SET wal_compression {value}"))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_variant_stores_all_rows_and_has_the_indexes_that_it_should() {
        let servers = Servers::start().await.unwrap();
        let mut connection = servers.postgres().await.unwrap();
        let stored = "
            CREATE SCHEMA stored;
            CREATE TABLE stored.event_partitions AS SELECT 7 AS number, NULL::timestamptz AS closed_at;
            CREATE TABLE stored.event_rows_7 (
                key uuid NOT NULL, seq bigint, ts timestamptz, received_at timestamptz, payload_hash uuid,
                request_id uuid, topic text, event_id text, source text, payload text NOT NULL);
            ALTER TABLE stored.event_rows_7 ADD PRIMARY KEY (key) INCLUDE (payload_hash);
            CREATE INDEX ON stored.event_rows_7 (seq);
            CREATE INDEX ON stored.event_rows_7 (hashtext(topic), seq);
            INSERT INTO stored.event_rows_7
            SELECT md5(n::text)::uuid, n, '2026-01-01', '2026-01-02', md5(n::text)::uuid, md5('r')::uuid, 'topic',
                   n, NULL, json_build_object('n', n)
            FROM generate_series(1, 6000) n";
        connection.execute(stored).await.unwrap();
        for variant in &VARIANTS {
            let [rate, .., bytes] = measure(&servers, variant).await.unwrap();
            assert!(rate > 0.0 && bytes > 0.0, "{}", variant.name);
            let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'variant.events'::regclass";
            let indexes: i64 = sqlx::query_scalar(indexes).fetch_one(&mut connection).await.unwrap();
            let added = variant.changes.contains("INDEX") || variant.changes.contains("PRIMARY KEY");
            assert_eq!(indexes as usize, 3 - variant.without.len() + usize::from(added), "{}", variant.name);
        }
    }
}
