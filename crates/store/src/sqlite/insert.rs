//! Inserting the rows of a batch.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use sluice_event::{EventKey, PayloadHash};
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, SqliteConnection};

use super::bulk::Bulk;
use super::errors::{of_insert, of_statement};
use super::key_partitions::KeySearch;
use crate::{Inserted, Row, StoreError};

/// OR FAIL leaves the rows before a refused one in place; the caller rolls back the transaction or the savepoint. By
/// default SQLite would undo the statement alone, and for that copy every page that the statement changes.
const INSERT: &str = "INSERT OR FAIL INTO events \
    (seq, key, ts, received_at, payload_hash, request_id, topic, event_id, source, payload) VALUES";
const VALUES: &str = "(?,?,?,?,?,?,?,?,?,?)";
static INSERT_EVENTS: LazyLock<Bulk> = LazyLock::new(|| Bulk::new(INSERT, VALUES, ""));
/// Only conflicts of the key: any other violated constraint refuses the data.
static INSERT_BY_INDEX: LazyLock<Bulk> = LazyLock::new(|| Bulk::new(INSERT, VALUES, "ON CONFLICT (key) DO NOTHING"));
static STORED_KEYS: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("SELECT key FROM events WHERE seq <= ? AND key IN (", "?", ")"));
static PAYLOAD_HASHES: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("SELECT key, payload_hash FROM events WHERE key IN (", "?", ")"));

/// Inserts the rows whose keys are not stored. `rows` are sorted by key.
pub(super) async fn insert_events(
    connection: &mut SqliteConnection,
    keys: &mut KeySearch,
    last_seq: i64,
    rows: &[Row<'_>],
) -> Result<Inserted, StoreError> {
    let mut stored_before = HashSet::new();
    let mut new: Vec<&Row<'_>> = rows.iter().collect();
    if keys.open().is_some() {
        let all: Vec<_> = rows.iter().map(|row| row.key).collect();
        keys.find_in_closed(connection, &all).await?;
        new.retain(|row| !keys.has_found(&row.key));
        // In the order of keys, which is that of their table.
        keys.insert(connection, &new).await?;
        new.retain(|row| !keys.has_found(&row.key));
        sort_by_arrival(&mut new);
        insert(connection, &INSERT_EVENTS, last_seq, &new, None).await?;
        stored_before.extend(all.into_iter().filter(|key| keys.has_found(key)));
    } else {
        sort_by_arrival(&mut new);
        insert(connection, &INSERT_BY_INDEX, last_seq, &new, Some(&mut stored_before)).await?;
    }
    if stored_before.is_empty() {
        return Ok(Inserted::All);
    }
    Ok(Inserted::Keys(rows.iter().map(|row| row.key).filter(|key| !stored_before.contains(key)).collect()))
}

/// Sorts rows in the order of arrival, which is that of their table, so that its pages are filled one after another.
/// (They are passed in key order, for databases with concurrent transactions.)
fn sort_by_arrival(rows: &mut [&Row<'_>]) {
    rows.sort_unstable_by_key(|row| row.ordinal);
}

/// Inserts rows. Adds the keys to `stored_before` of which there is a row already.
async fn insert(
    connection: &mut SqliteConnection,
    bulk: &Bulk,
    last_seq: i64,
    rows: &[&Row<'_>],
    mut stored_before: Option<&mut HashSet<EventKey>>,
) -> Result<(), StoreError> {
    let mut statements = bulk.statements(rows).map(|(text, rows)| (text, rows, values(last_seq, rows)));
    let mut next = statements.next();
    while let Some((text, rows, values)) = next {
        let values = values.map_err(|error| of_statement(sqlx::Error::Encode(error)))?;
        let insert = sqlx::query_with(text, values).execute(&mut *connection);
        // The connection has a thread of its own: while that inserts, the next values are copied.
        let (inserted, following) = tokio::join!(insert, async { statements.next() });
        next = following;
        let inserted = inserted.map_err(of_insert)?.rows_affected();
        if let Some(stored_before) = stored_before.as_mut().filter(|_| inserted < rows.len() as u64) {
            stored_before.extend(stored_keys(connection, last_seq, rows).await?);
        }
    }
    Ok(())
}

/// Returns the values of these rows, in the order of the statement.
fn values(last_seq: i64, rows: &[&Row<'_>]) -> Result<SqliteArguments, BoxDynError> {
    // Text is sent to the thread of the connection: allocated once as `Arc<str>`, but twice as `&str`.
    let text = |text: &str| Arc::<str>::from(text);
    let mut values = SqliteArguments::default();
    values.reserve(rows.len() * 10, 0);
    for row in rows {
        values.add(last_seq + 1 + i64::from(row.ordinal))?;
        values.add(row.key)?;
        values.add(row.event.timestamp.as_micros())?;
        values.add(row.received_at.as_micros())?;
        values.add(row.event.payload_hash)?;
        values.add(row.request_id)?;
        values.add(text(&row.event.topic))?;
        values.add(text(&row.event.event_id))?;
        values.add(row.event.source.as_deref().map(text))?;
        values.add(text(&row.event.payload))?;
    }
    Ok(values)
}

/// Returns the keys of these rows that were stored before this transaction, by the index of all keys.
async fn stored_keys(
    connection: &mut SqliteConnection,
    last_seq: i64,
    rows: &[&Row<'_>],
) -> Result<Vec<EventKey>, StoreError> {
    let mut stored = Vec::new();
    for (text, rows) in STORED_KEYS.statements(rows) {
        let select = sqlx::query_scalar::<_, EventKey>(text).bind(last_seq);
        let select = rows.iter().fold(select, |select, row| select.bind(row.key));
        stored.extend(select.fetch_all(&mut *connection).await.map_err(of_statement)?);
    }
    Ok(stored)
}

/// Returns the hashes of the payloads that are stored with these keys, by the index of all keys.
pub(super) async fn hashes_by_index(
    connection: &mut SqliteConnection,
    keys: &[EventKey],
) -> Result<HashMap<EventKey, PayloadHash>, StoreError> {
    let mut hashes = HashMap::with_capacity(keys.len());
    for (text, keys) in PAYLOAD_HASHES.statements(keys) {
        let select =
            keys.iter().fold(sqlx::query_as::<_, (EventKey, PayloadHash)>(text), |select, key| select.bind(*key));
        hashes.extend(select.fetch_all(&mut *connection).await.map_err(of_statement)?);
    }
    Ok(hashes)
}
