//! Looking keys up in the partitions that may have them.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_event::{EventKey, PayloadHash};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::super::errors::of_statement;
use super::layout::{Layout, Open, table};
use crate::partitions::{Loaded, closed_places};
use crate::{Row, StoreError};

/// Keys in one statement.
const CHUNK: usize = 256;

/// What one transaction knows of the keys that were stored before it.
pub(crate) struct KeySearch {
    layout: Arc<Layout>,
    filters: Loaded,
    /// The first event that is stored.
    first_seq: i64,
    /// The last event before this transaction.
    last_seq: i64,
    /// What was found.
    found: HashMap<EventKey, PayloadHash>,
}

impl KeySearch {
    /// Returns a search for a transaction that begins after this `seq`. `first_seq` is that of the first event that is
    /// stored; `None` if there is none.
    pub fn new(layout: Arc<Layout>, filters: Loaded, first_seq: Option<i64>, last_seq: i64) -> Self {
        let first_seq = first_seq.unwrap_or(last_seq + 1);
        Self { layout, filters, first_seq, last_seq, found: HashMap::new() }
    }

    /// Returns the open partition; `None` while the index of all events decides.
    pub fn open(&self) -> Option<&Open> {
        self.layout.open.as_ref()
    }

    /// Returns whether a key was found.
    pub fn has_found(&self, key: &EventKey) -> bool {
        self.found.contains_key(key)
    }

    /// Returns the hashes of the payloads that were stored with these keys before this transaction.
    pub async fn hashes(
        &mut self,
        connection: &mut SqliteConnection,
        keys: &[EventKey],
    ) -> Result<HashMap<EventKey, PayloadHash>, StoreError> {
        // All but a few were found when they were inserted.
        let rest: Vec<_> = keys.iter().copied().filter(|key| !self.has_found(key)).collect();
        if !rest.is_empty() {
            self.find_in_closed(&mut *connection, &rest).await?;
            self.find_in_open(connection, &rest).await?;
        }
        Ok(keys.iter().filter_map(|key| Some((*key, *self.found.get(key)?))).collect())
    }

    /// Finds which of these keys are stored in closed partitions.
    pub async fn find_in_closed(
        &mut self,
        connection: &mut SqliteConnection,
        keys: &[EventKey],
    ) -> Result<(), StoreError> {
        let layout = Arc::clone(&self.layout);
        for (number, keys) in closed_places(&layout.list, &self.filters, keys) {
            let Some(number) = number.filter(|number| layout.has_keys_since(*number, self.first_seq)) else { continue };
            let found_before = self.found.len();
            for keys in keys.chunks(CHUNK) {
                let marks = vec!["?"; keys.len()].join(",");
                let table = table(number);
                // A key of an event that was removed is not stored.
                let text = format!("SELECT key, payload_hash FROM {table} WHERE seq >= ? AND key IN ({marks})");
                // There are as many of these statements as partitions and numbers of keys: none of them stays prepared.
                let select = sqlx::query_as(AssertSqlSafe(text)).persistent(false).bind(self.first_seq);
                let select = keys.iter().fold(select, |select, key| select.bind(*key));
                let rows: Vec<(EventKey, PayloadHash)> =
                    select.fetch_all(&mut *connection).await.map_err(of_statement)?;
                self.found.extend(rows);
            }
            self.filters.count(keys.len(), self.found.len() - found_before);
        }
        Ok(())
    }

    /// Finds which of these keys are stored in the open partition.
    async fn find_in_open(&mut self, connection: &mut SqliteConnection, keys: &[EventKey]) -> Result<(), StoreError> {
        let layout = Arc::clone(&self.layout);
        let Some(open) = &layout.open else { return Ok(()) };
        for (text, keys) in open.find.statements(keys) {
            let select = sqlx::query_as(text).bind(self.first_seq).bind(self.last_seq);
            let select = keys.iter().fold(select, |select, key| select.bind(*key));
            let rows: Vec<(EventKey, PayloadHash)> = select.fetch_all(&mut *connection).await.map_err(of_statement)?;
            self.found.extend(rows);
        }
        Ok(())
    }

    /// Inserts the keys of these rows, which are sorted by key, into the open partition, and finds those that are
    /// there.
    pub async fn insert(&mut self, connection: &mut SqliteConnection, rows: &[&Row<'_>]) -> Result<(), StoreError> {
        let layout = Arc::clone(&self.layout);
        let Some(open) = &layout.open else { return Ok(()) };
        // Usually the retention has removed no event whose key is in the open partition.
        let replaces = self.first_seq > open.after_seq + 1;
        let bulk = if replaces { &open.replace } else { &open.insert };
        for (text, rows) in bulk.statements(rows) {
            let mut insert = rows.iter().fold(sqlx::query(text), |insert, row| {
                let seq = self.last_seq + 1 + i64::from(row.ordinal);
                insert.bind(row.key).bind(row.event.payload_hash).bind(seq)
            });
            if replaces {
                insert = insert.bind(self.first_seq);
            }
            let inserted = insert.execute(&mut *connection).await.map_err(of_statement)?;
            if inserted.rows_affected() < rows.len() as u64 {
                let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
                self.find_in_open(&mut *connection, &keys).await?;
            }
        }
        Ok(())
    }

    /// Adds to the number of keys in the open partition.
    pub async fn count(&self, connection: &mut SqliteConnection, inserted: u64) -> Result<(), StoreError> {
        let Some(open) = self.open().filter(|_| inserted > 0) else { return Ok(()) };
        let count = sqlx::query("UPDATE key_partitions SET keys = keys + ? WHERE number = ?");
        let count = count.bind(inserted.cast_signed()).bind(open.number).execute(connection).await;
        count.map(|_| ()).map_err(of_statement)
    }
}

/// Returns the `seq` of each event with a key, as far as a reader sees them: one of them is stored, and those before it
/// were removed.
pub(crate) async fn seqs_of(
    connection: &mut SqliteConnection,
    layout: &Layout,
    filters: &Loaded,
    key: EventKey,
) -> Result<Vec<i64>, StoreError> {
    let closed = closed_places(&layout.list, filters, &[key]).into_iter().filter_map(|(number, _)| number);
    let mut seqs = Vec::new();
    for number in layout.open.iter().map(|open| open.number).chain(closed) {
        let text = format!("SELECT seq FROM {} WHERE key = ?", table(number));
        let select = sqlx::query_scalar::<_, i64>(AssertSqlSafe(text)).persistent(false).bind(key);
        seqs.extend(select.fetch_optional(&mut *connection).await.map_err(of_statement)?);
    }
    Ok(seqs)
}
