//! The tables of the file, and the settings that must not change once there is data.

use std::borrow::Cow;

use sluice_event::Keyer;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, SqlSafeStr, SqliteConnection};

use super::errors::of_statement;
use super::key_partitions::{MARK, finish_if_empty, is_switched};
use super::meters::METERS_MARK;
use crate::{StoreError, check_dedup_fields};

/// Applies the migrations that are not applied yet, and records or checks the dedup fields, in
/// one transaction that holds the write lock from its beginning.
pub(super) async fn prepare(connection: &mut SqliteConnection, keyer: &Keyer) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(of_statement)?;
    migrator()
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))?;
    finish_if_empty(&mut transaction).await.map_err(of_statement)?;
    let mark = if is_switched(&mut transaction).await.map_err(of_statement)? { MARK } else { "" };
    let wanted = keyer.to_string();
    let stored: Option<String> = sqlx::query_scalar("SELECT value FROM settings WHERE name = 'dedup_fields'")
        .fetch_optional(&mut *transaction)
        .await
        .map_err(of_statement)?;
    match stored {
        Some(stored) => check_dedup_fields(without_mark(&stored), &wanted)?,
        None => {
            let insert = sqlx::query("INSERT INTO settings (name, value) VALUES ('dedup_fields', ?)");
            let insert = insert.bind(format!("{wanted}{mark}"));
            insert.execute(&mut *transaction).await.map_err(of_statement)?;
        }
    }
    if !keyer.uses_only_topic_and_event_id() {
        // The key of an event cannot be computed from the topic and the id, by which the API looks it up.
        let index = "CREATE INDEX IF NOT EXISTS events_topic_event_id ON events (topic, event_id)";
        sqlx::query(index).execute(&mut *transaction).await.map_err(of_statement)?;
    }
    transaction.commit().await.map_err(of_statement)
}

/// Returns the dedup fields of their record, which says more to older versions.
pub(super) fn without_mark(recorded: &str) -> &str {
    let mut fields = recorded;
    while let Some(rest) = [MARK, METERS_MARK].into_iter().find_map(|mark| fields.strip_suffix(mark)) {
        fields = rest;
    }
    fields
}

fn migrator() -> Migrator {
    let migration = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(vec![
        migration(1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql")),
        migration(2, "arrival marks", include_str!("../../migrations/sqlite/0002_arrival_marks.sql")),
        migration(3, "ledger", include_str!("../../migrations/sqlite/0003_ledger.sql")),
        migration(4, "dead letter receipts", include_str!("../../migrations/sqlite/0004_dead_letter_receipts.sql")),
        migration(5, "key partitions", include_str!("../../migrations/sqlite/0005_key_partitions.sql")),
        migration(6, "filter groups", include_str!("../../migrations/sqlite/0006_filter_groups.sql")),
        migration(7, "series", include_str!("../../migrations/sqlite/0007_series.sql")),
        migration(8, "meters", include_str!("../../migrations/sqlite/0008_meters.sql")),
        migration(9, "feed", include_str!("../../migrations/sqlite/0009_feed.sql")),
        migration(10, "conflicts", include_str!("../../migrations/sqlite/0010_conflicts.sql")),
        migration(11, "outcomes", include_str!("../../migrations/sqlite/0011_outcomes.sql")),
        migration(12, "topic schemas", include_str!("../../migrations/sqlite/0012_topic_schemas.sql")),
    ]);
    migrator.set_locking(false).set_ignore_missing(true);
    migrator
}
