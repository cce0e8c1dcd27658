//! What a backup notes about the database that it is made of.

use std::time::Duration;

use sluice_service::durability::Durability;

use super::address::Address;
use super::connections::Connections;
use super::errors::of_statement;
use super::session::Session;
use super::settings::PostgresSettings;
use crate::StoreError;

/// The longest that one of these statements may take. None reads a table but `counters`, which has few rows.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a backup notes about the database that it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFacts {
    /// The major version of the server.
    pub major: u32,
    /// The number of events that are stored, by the counters. What retention has removed is not in it.
    pub events: u64,
    /// The bytes that the tables take, with their indexes.
    pub bytes: u64,
}

/// Reads what a backup notes about a schema.
///
/// # Errors
/// [`StoreError::Unavailable`] if the database does not answer, [`StoreError::Failed`] if it has no such tables.
pub async fn backup_facts(settings: &PostgresSettings) -> Result<BackupFacts, StoreError> {
    let session = Session::audit(settings, TIMEOUT);
    let connections = Connections::new(Address::new(settings)?, 1, session, Durability::of("PostgreSQL"));
    let mut connection = connections.lease().await?.into_connection();
    let select = sqlx::query_as::<_, (i32, i64, i64)>(
        "SELECT current_setting('server_version_num')::int4 / 10000, \
                (SELECT coalesce(sum(unique_processed), 0) FROM counters)::int8 \
                - (SELECT coalesce(sum(events), 0) FROM ledger WHERE kind = 'removed')::int8, \
                (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class AS c \
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'm'))::int8",
    );
    let row = select.bind(&settings.schema).fetch_one(&mut connection).await.map_err(of_statement)?;
    let (major, events, bytes) = row;
    let unsigned = |number: i64| number.max(0).cast_unsigned();
    Ok(BackupFacts { major: major.max(0).cast_unsigned(), events: unsigned(events), bytes: unsigned(bytes) })
}
