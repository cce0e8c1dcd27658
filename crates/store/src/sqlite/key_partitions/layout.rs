//! Where keys of events lie: the list of partitions, as one transaction found it.

use std::sync::{Arc, PoisonError, RwLock};

use sqlx::{Row as _, SqliteConnection};

use super::super::bulk::Bulk;
use super::super::errors::of_statement;
use crate::StoreError;
use crate::partitions::key_filter::FilterName;

/// A list of partitions. It never changes: another one has another version.
pub(crate) struct Layout {
    version: String,
    /// The partition that new keys are written to; `None` while the index of all events decides.
    pub open: Option<Open>,
    /// The newest first.
    pub closed: Vec<Closed>,
}

/// The partition that is written to, and the statements for it.
pub(crate) struct Open {
    pub number: i32,
    /// All its keys are of later events.
    pub after_seq: i64,
    /// Inserts keys that are not there.
    pub insert: Bulk,
    /// Inserts keys that are not there, or are there for an event before a `seq`.
    pub replace: Bulk,
    /// Returns the hashes of keys that are there for the events from one `seq` to another.
    pub find: Bulk,
}

/// A partition that never changes again.
pub(crate) struct Closed {
    pub number: i32,
    /// No key in it is of a later event.
    pub last_seq: i64,
    pub keys: u64,
    /// The filter of its keys; `None` while it has none.
    pub filter: Option<FilterName>,
}

/// Returns the name of the table of a partition.
pub(crate) fn table(number: i32) -> String {
    format!("event_keys_{number}")
}

/// The statement after a change of the list.
pub(crate) const NEW_VERSION: &str = "UPDATE key_layout SET version = lower(hex(randomblob(16)))";

impl Open {
    fn new(number: i32, after_seq: i64) -> Self {
        let table = table(number);
        // Without OR FAIL, SQLite would copy each page that a statement changes, to be able to undo the statement
        // alone.
        let insert = format!("INSERT OR FAIL INTO {table} (key, payload_hash, seq) VALUES");
        let replace = "ON CONFLICT (key) DO UPDATE SET payload_hash = excluded.payload_hash, seq = excluded.seq \
                       WHERE seq < ?";
        let find = format!("SELECT key, payload_hash FROM {table} WHERE seq BETWEEN ? AND ? AND key IN (");
        Self {
            number,
            after_seq,
            insert: Bulk::new(&insert, "(?,?,?)", "ON CONFLICT (key) DO NOTHING"),
            replace: Bulk::new(&insert, "(?,?,?)", replace),
            find: Bulk::new(&find, "?", ")"),
        }
    }
}

/// The layout that a process has read last. Clones of it are shared by its transactions.
#[derive(Default)]
pub(crate) struct Layouts(RwLock<Option<Arc<Layout>>>);

impl Layouts {
    /// Returns the layout as the caller's transaction sees it, and the `seq` of the first event that is stored: `None`
    /// without any.
    pub async fn of(&self, connection: &mut SqliteConnection) -> Result<(Arc<Layout>, Option<i64>), StoreError> {
        let select = sqlx::query_as("SELECT version, (SELECT min(seq) FROM events) FROM key_layout");
        let (version, first_seq): (String, Option<i64>) =
            select.fetch_one(&mut *connection).await.map_err(of_statement)?;
        let cached = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(cached) = cached.filter(|cached| cached.version == version) {
            return Ok((cached, first_seq));
        }
        let layout = Arc::new(read(connection, version).await.map_err(of_statement)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&layout));
        Ok((layout, first_seq))
    }
}

async fn read(connection: &mut SqliteConnection, version: String) -> Result<Layout, sqlx::Error> {
    let select = sqlx::query(
        "SELECT number, after_seq, last_seq, keys, filter, (SELECT copied_seq IS NULL FROM key_layout) \
         FROM key_partitions ORDER BY number DESC",
    );
    let mut layout = Layout { version, open: None, closed: Vec::new() };
    for row in select.fetch_all(connection).await? {
        let (number, last_seq): (i32, Option<i64>) = (row.try_get(0)?, row.try_get(2)?);
        let Some(last_seq) = last_seq else {
            if row.try_get(5)? {
                layout.open = Some(Open::new(number, row.try_get(1)?));
            }
            continue;
        };
        let filter = row.try_get::<Option<String>, _>(4)?.map(|id| FilterName { partition: number, id });
        layout.closed.push(Closed { number, last_seq, keys: row.try_get::<i64, _>(3)?.cast_unsigned(), filter });
    }
    Ok(layout)
}

#[cfg(test)]
impl Layout {
    /// Returns a layout with these closed partitions.
    pub fn of_closed(closed: Vec<Closed>) -> Self {
        Self { version: "a version".to_owned(), open: None, closed }
    }
}
