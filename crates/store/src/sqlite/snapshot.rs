//! A snapshot of a file, to be audited.

use std::path::Path;
use std::time::Duration;

use sluice_event::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::errors::of_statement;
use super::query;
use super::schema::without_mark;
use crate::damage::recorded_keyer;
use crate::inspect::{CountersRow, LAST_AUDIT, StoreAudit};
use crate::{RowCheck, StoreError};

/// The longest wait for another process that has the file locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An open snapshot of a file, to be audited. It changes nothing, and creates no tables. A process that has the file
/// open goes on writing to it.
pub struct Snapshot {
    connection: SqliteConnection,
}

/// Notes the result of an audit, for those who ask a server that uses this file. A process that has it open goes on writing.
///
/// # Errors
/// [`StoreError`] if there is no such file, or it cannot be written.
pub async fn note_audit(path: &Path, result: &str) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT).disable_statement_logging();
    let mut connection = options.connect().await.map_err(of_statement)?;
    let note =
        "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sqlx::query(note).bind(LAST_AUDIT).bind(result).execute(&mut connection).await.map_err(of_statement)?;
    connection.close().await.map_err(of_statement)
}

impl Snapshot {
    /// Opens the file and a snapshot: what is committed later is not seen.
    ///
    /// # Errors
    /// [`StoreError`] if there is no such file, or it has no such tables.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let mut connection = options.connect().await.map_err(of_statement)?;
        sqlx::raw_sql("BEGIN; SELECT count(*) FROM settings").execute(&mut connection).await.map_err(of_statement)?;
        Ok(Self { connection })
    }

    /// Compares all rows of events in the snapshot with their hashes.
    ///
    /// # Errors
    /// If a row cannot be read.
    pub async fn check_rows(&mut self) -> Result<RowCheck, StoreError> {
        let fields = sqlx::query_scalar::<_, String>("SELECT value FROM settings WHERE name = 'dedup_fields'");
        let fields = fields.fetch_optional(&mut self.connection).await.map_err(of_statement)?;
        let fields = fields.map(|fields| without_mark(&fields).to_owned());
        query::check_rows(&mut self.connection, &recorded_keyer(fields)?).await.map_err(of_statement)
    }

    /// Counts everything in the snapshot, and closes it.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn count(mut self) -> Result<StoreAudit, StoreError> {
        let mut audit = StoreAudit::default();
        let counters = sqlx::query_as::<_, CountersRow>(
            "SELECT topic, sum(received), sum(unique_processed), sum(duplicate_dropped), sum(conflicts) \
             FROM counters GROUP BY topic",
        );
        audit.set_counters(counters.fetch_all(&mut self.connection).await.map_err(of_statement)?);
        let numbers = sqlx::query_as::<_, (String, String, i64)>(
            "SELECT topic, kind, sum(events) FROM ledger GROUP BY topic, kind \
             UNION ALL \
             SELECT coalesce(topic, ''), 'dead_lettered', sum(events) FROM dead_letters GROUP BY 1 \
             UNION ALL \
             SELECT topic, 'rows', count(*) FROM events GROUP BY topic",
        );
        for (topic, kind, number) in numbers.fetch_all(&mut self.connection).await.map_err(of_statement)? {
            audit.add(topic, &kind, number.cast_unsigned());
        }
        let trail = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM audit");
        audit.trail_rows = trail.fetch_one(&mut self.connection).await.map_err(of_statement)?.cast_unsigned();
        let since =
            sqlx::query_scalar::<_, i64>("SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'ledger_since'");
        let since = since.fetch_optional(&mut self.connection).await.map_err(of_statement)?;
        audit.ledger_since = since.and_then(Timestamp::from_micros);
        let _ = self.connection.close().await;
        Ok(audit)
    }
}
