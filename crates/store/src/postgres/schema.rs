//! The schema: created and migrated under a lock, with a record of the settings that must not change once
//! there is data.

use std::borrow::Cow;
use std::time::Duration;

use sluice_service::durability::Durability;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr};

use super::address::Address;
use super::connections::{Connections, Lease};
use super::errors::{of_statement, within};
use super::event_partitions::{switch, views};
use super::locks::lock_id;
use super::pooler;
use super::restored;
use super::session::{Session, quoted};
use super::settings::{PayloadType, PostgresSettings};
use crate::{StoreError, check_dedup_fields};

/// The longest wait for another process that is migrating the same schema.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest wait for a lock on a table. All batches queue behind this wait, so it is short; the migration is then
/// repeated.
const TABLE_LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that migrating may take: creating an index on a large table takes minutes.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// The settings that a schema was created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schema {
    /// The type of payloads, as users see it.
    pub payload_type: PayloadType,
}

/// Creates the schema if it is missing and applies the migrations that are not applied yet. Idempotent, also
/// if several processes call it at once. Does not check the dedup fields.
///
/// # Errors
/// [`StoreError::Unavailable`] if the database does not answer, [`StoreError::Conflict`] if another process
/// has been migrating for a minute or uses a table, [`StoreError::Failed`] if the database refuses.
pub async fn migrate(settings: &PostgresSettings) -> Result<(), StoreError> {
    let mut lease = lock(settings).await?;
    let migrated = bounded(migrate_locked(&mut lease, settings)).await;
    close(lease).await;
    migrated.map(|_| ())
}

/// Does what [`migrate`] does, then checks that the stored events were deduplicated by the same fields.
/// Returns the settings that the schema was created with.
pub(super) async fn prepare(settings: &PostgresSettings) -> Result<Schema, StoreError> {
    let mut lease = lock(settings).await?;
    let schema = bounded(async {
        let schema = migrate_locked(&mut lease, settings).await?;
        ensure_dedup_fields(&mut lease, settings).await?;
        restored::notice_restore(&mut lease).await?;
        Ok(schema)
    });
    let schema = schema.await;
    close(lease).await;
    schema
}

/// Returns a connection that holds the lock under which the schema is changed. There is a lock per schema,
/// so that resources that share a database do not wait for each other. It belongs to the session, so it is
/// released with the connection, whatever happens.
async fn lock(settings: &PostgresSettings) -> Result<Lease, StoreError> {
    let session = Session::migrations(settings, LOCK_TIMEOUT, DEADLINE);
    let connections = Connections::new(Address::new(settings)?, 2, session, Durability::of("PostgreSQL"));
    let mut lease = connections.lease().await?;
    // A pooler that has no second session for this program does not share the first one.
    if let Ok(mut other) = connections.lease().await {
        pooler::check(&mut lease, &mut other).await?;
        close(other).await;
    }
    let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(lock_id(&settings.schema, "migrate"));
    within(LOCK_TIMEOUT + Duration::from_secs(5), lock.execute(&mut *lease)).await.map_err(of_statement)?;
    lease.run(AssertSqlSafe(format!("SET lock_timeout = {}", TABLE_LOCK_TIMEOUT.as_millis()))).await?;
    Ok(lease)
}

async fn bounded<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable(format!("migrating took longer than {DEADLINE:?}"))),
    }
}

/// Closes the connection by the protocol, so that the lock is released when this returns.
async fn close(lease: Lease) {
    let _ = within(Duration::from_secs(1), lease.into_connection().close()).await;
}

async fn migrate_locked(connection: &mut PgConnection, settings: &PostgresSettings) -> Result<Schema, StoreError> {
    check_encoding(connection).await?;
    create_schema(connection, &settings.schema).await?;
    migrator().run_direct(None, connection, false).await.map_err(of_migration)?;
    let payload_type = ensure_payload_type(connection, settings.payload_type).await?;
    if !settings.keyer.uses_only_topic_and_event_id() {
        // The key of an event cannot be computed from the topic and the id, by which the API looks it up.
        let table = if is_partitioned(connection).await? { "event_rows" } else { "events" };
        let index = format!("CREATE INDEX IF NOT EXISTS events_topic_event_id ON {table} (topic, event_id)");
        sqlx::query(AssertSqlSafe(index)).execute(connection).await.map_err(of_statement)?;
    }
    Ok(Schema { payload_type })
}

/// Fails unless the encoding has every character that an event may contain.
async fn check_encoding(connection: &mut PgConnection) -> Result<(), StoreError> {
    let encoding: String =
        sqlx::query_scalar("SHOW server_encoding").fetch_one(connection).await.map_err(of_statement)?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::Failed(format!("the database's encoding is {encoding}; it must be UTF8")))
}

/// Creates the schema if it is missing. `CREATE SCHEMA IF NOT EXISTS` would need the permission to create
/// schemas even if this one exists.
async fn create_schema(connection: &mut PgConnection, schema: &str) -> Result<(), StoreError> {
    let exists = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)").bind(schema);
    if exists.fetch_one(&mut *connection).await.map_err(of_statement)? {
        return Ok(());
    }
    let create = AssertSqlSafe(format!("CREATE SCHEMA {}", quoted(schema)));
    sqlx::query(create).execute(connection).await.map(|_| ()).map_err(of_statement)
}

/// Returns the migrations of this build. Applied ones that only a newer build has are ignored: migrations
/// only expand the schema, so both builds work with it.
fn migrator() -> Migrator {
    let migration = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(vec![
        migration(1, "initial", include_str!("../../migrations/postgres/0001_initial.sql")),
        migration(2, "arrival marks", include_str!("../../migrations/postgres/0002_arrival_marks.sql")),
        migration(3, "ledger", include_str!("../../migrations/postgres/0003_ledger.sql")),
        migration(4, "dead letter receipts", include_str!("../../migrations/postgres/0004_dead_letter_receipts.sql")),
        migration(5, "commit marks", include_str!("../../migrations/postgres/0005_commit_marks.sql")),
        migration(6, "event partitions", include_str!("../../migrations/postgres/0006_event_partitions.sql")),
        migration(7, "event filter groups", include_str!("../../migrations/postgres/0007_event_filter_groups.sql")),
        migration(8, "audit partitions", include_str!("../../migrations/postgres/0008_audit_partitions.sql")),
        migration(9, "series", include_str!("../../migrations/postgres/0009_series.sql")),
        migration(10, "meters", include_str!("../../migrations/postgres/0010_meters.sql")),
        migration(11, "feed", include_str!("../../migrations/postgres/0011_feed.sql")),
        migration(12, "conflicts", include_str!("../../migrations/postgres/0012_conflicts.sql")),
        migration(13, "outcomes", include_str!("../../migrations/postgres/0013_outcomes.sql")),
        migration(14, "topic schemas", include_str!("../../migrations/postgres/0014_topic_schemas.sql")),
    ]);
    migrator.set_locking(false).set_ignore_missing(true);
    migrator
}

fn of_migration(error: sqlx::migrate::MigrateError) -> StoreError {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::Execute(error) => of_statement(error),
        MigrateError::ExecuteMigration(error, version) => match of_statement(error) {
            StoreError::Failed(message) => StoreError::Failed(format!("migration {version}: {message}")),
            other => other,
        },
        other => StoreError::Failed(other.to_string()),
    }
}

/// What the setting `payload_type` begins with where events lie in partitions. Programs that do not know partitions do not
/// know such a type, and refuse to start.
const PARTITIONED: &str = "partitioned ";

/// Puts the events of a new schema into partitions, and returns the type that payloads have.
async fn ensure_payload_type(connection: &mut PgConnection, wanted: PayloadType) -> Result<PayloadType, StoreError> {
    if let Some(stored) = setting(connection, "payload_type").await? {
        let stored = stored.strip_prefix(PARTITIONED).unwrap_or(&stored);
        let stored: PayloadType = stored.parse().map_err(StoreError::Failed)?;
        if stored != wanted {
            tracing::warn!(%stored, %wanted, "the payload type cannot be changed after the schema was created: the stored type is used");
        }
        return Ok(stored);
    }
    let mut transaction = connection.begin().await.map_err(of_statement)?;
    record(&mut transaction, "payload_type", &wanted.to_string()).await?;
    let empty = "DELETE FROM event_partitions WHERE was_events; DROP TABLE event_rows_0";
    let sql = format!("{}; {}; {empty}", switch::statements(wanted, 0), views::create(wanted, None));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.map_err(of_statement)?;
    transaction.commit().await.map_err(of_statement)?;
    Ok(wanted)
}

/// Records the dedup fields in a new schema; fails if an existing one was created with others.
async fn ensure_dedup_fields(connection: &mut PgConnection, settings: &PostgresSettings) -> Result<(), StoreError> {
    let wanted = settings.keyer.to_string();
    let Some(stored) = setting(connection, "dedup_fields").await? else {
        return record(connection, "dedup_fields", &wanted).await;
    };
    check_dedup_fields(&stored, &wanted)
}

async fn is_partitioned(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let select = sqlx::query_scalar("SELECT EXISTS (SELECT FROM event_layout)");
    select.fetch_one(connection).await.map_err(of_statement)
}

pub(super) async fn setting(connection: &mut PgConnection, name: &str) -> Result<Option<String>, StoreError> {
    let value = sqlx::query_scalar("SELECT value FROM settings WHERE name = $1").bind(name);
    value.fetch_optional(connection).await.map_err(of_statement)
}

async fn record(connection: &mut PgConnection, name: &str, value: &str) -> Result<(), StoreError> {
    let insert = sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2)").bind(name).bind(value);
    insert.execute(connection).await.map(|_| ()).map_err(of_statement)
}
