//! A snapshot of a schema, to be audited.

use std::time::Duration;

use sluice_event::Timestamp;
use sluice_service::durability::Durability;
use sqlx::postgres::PgRow;
use sqlx::{Connection, FromRow, PgConnection, Row as _};

use super::address::Address;
use super::connections::Connections;
use super::errors::of_statement;
use super::query;
use super::schema::setting;
use super::session::Session;
use super::settings::PostgresSettings;
use crate::damage::recorded_keyer;
use crate::inspect::{CountersRow, LAST_AUDIT, StoreAudit};
use crate::{RowCheck, StoreError};

/// The numbers of one topic, of one kind.
struct NumberRow {
    topic: String,
    kind: String,
    number: u64,
}

impl<'r> FromRow<'r, PgRow> for NumberRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self { topic: row.try_get(0)?, kind: row.try_get(1)?, number: row.try_get::<i64, _>(2)?.cast_unsigned() })
    }
}

/// An open snapshot of a schema, to be audited. It changes nothing, and creates no tables.
pub struct Snapshot {
    connection: PgConnection,
}

/// Notes the result of an audit, for those who ask a server that uses this schema.
///
/// # Errors
/// [`StoreError`] if the database does not answer, or refuses.
pub async fn note_audit(settings: &PostgresSettings, timeout: Duration, result: &str) -> Result<(), StoreError> {
    let mut connection = connect(settings, timeout).await?;
    let note =
        "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value";
    let note = sqlx::query(note).bind(LAST_AUDIT).bind(result);
    note.execute(&mut connection).await.map(|_| ()).map_err(of_statement)
}

async fn connect(settings: &PostgresSettings, timeout: Duration) -> Result<PgConnection, StoreError> {
    let session = Session::audit(settings, timeout);
    let connections = Connections::new(Address::new(settings)?, 1, session, Durability::of("PostgreSQL"));
    Ok(connections.lease().await?.into_connection())
}

impl Snapshot {
    /// Connects and opens a snapshot: what is committed later is not seen. Each statement may take as long as
    /// `timeout`, because rows are counted.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database does not answer, [`StoreError::Failed`] if it has no such tables.
    pub async fn open(settings: &PostgresSettings, timeout: Duration) -> Result<Self, StoreError> {
        let mut connection = connect(settings, timeout).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT count(*) FROM settings";
        sqlx::raw_sql(begin).execute(&mut connection).await.map_err(of_statement)?;
        Ok(Self { connection })
    }

    /// Compares all rows of events in the snapshot with their hashes.
    ///
    /// # Errors
    /// If a row cannot be read, or it takes too long.
    pub async fn check_rows(&mut self) -> Result<RowCheck, StoreError> {
        let keyer = recorded_keyer(setting(&mut self.connection, "dedup_fields").await?)?;
        query::check_rows(&mut self.connection, &keyer).await.map_err(of_statement)
    }

    /// Counts everything in the snapshot, and closes it.
    ///
    /// # Errors
    /// If a statement fails, or takes too long.
    pub async fn count(mut self) -> Result<StoreAudit, StoreError> {
        let mut audit = StoreAudit::default();
        let counters = sqlx::query_as::<_, CountersRow>(
            "SELECT topic, sum(received)::int8, sum(unique_processed)::int8, sum(duplicate_dropped)::int8, \
                    sum(conflicts)::int8 \
             FROM counters GROUP BY topic",
        );
        audit.set_counters(counters.fetch_all(&mut self.connection).await.map_err(of_statement)?);
        let numbers = sqlx::query_as::<_, NumberRow>(
            "SELECT topic, kind, sum(events)::int8 FROM ledger GROUP BY topic, kind \
             UNION ALL \
             SELECT coalesce(topic, ''), 'dead_lettered', sum(events)::int8 FROM dead_letters GROUP BY 1 \
             UNION ALL \
             SELECT topic, 'rows', count(*) FROM events GROUP BY topic",
        );
        for NumberRow { topic, kind, number } in numbers.fetch_all(&mut self.connection).await.map_err(of_statement)? {
            audit.add(topic, &kind, number);
        }
        let trail = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM audit");
        audit.trail_rows = trail.fetch_one(&mut self.connection).await.map_err(of_statement)?.cast_unsigned();
        let since = setting(&mut self.connection, "ledger_since").await?;
        audit.ledger_since = since.and_then(|micros| micros.parse().ok()).and_then(Timestamp::from_micros);
        let _ = self.connection.close().await;
        Ok(audit)
    }
}
