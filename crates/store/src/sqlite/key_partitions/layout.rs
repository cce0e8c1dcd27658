//! Where keys of events lie: the list of partitions, as one transaction found it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, SqliteConnection, Type};

use super::super::bulk::Bulk;
use super::super::errors::of_statement;
use crate::StoreError;
use crate::partitions::{FilterName, Group, Layout as List, Listed};

/// A list of partitions. It never changes: another one has another version.
pub(crate) struct Layout {
    /// The partitions and the groups of them.
    pub list: List,
    /// The partition that new keys are written to; `None` while the index of all events decides.
    pub open: Option<Open>,
    /// The last event of which a key can be in a closed partition.
    last_seqs: HashMap<i32, i64>,
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
        if let Some(cached) = cached.filter(|cached| cached.list.version() == version) {
            return Ok((cached, first_seq));
        }
        let layout = Arc::new(read(connection, version).await?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&layout));
        Ok((layout, first_seq))
    }
}

async fn read(connection: &mut SqliteConnection, version: String) -> Result<Layout, StoreError> {
    let select = sqlx::query(
        "SELECT number, after_seq, last_seq, keys, filter, (SELECT copied_seq IS NULL FROM key_layout) \
         FROM key_partitions ORDER BY number DESC",
    );
    let (mut open, mut last_seqs, mut listed) = (None, HashMap::new(), Vec::new());
    for row in select.fetch_all(&mut *connection).await.map_err(of_statement)? {
        let (number, last_seq): (i32, Option<i64>) = (get(&row, 0)?, get(&row, 2)?);
        let filter = get::<Option<String>>(&row, 4)?.map(|id| Ok::<_, StoreError>((id, get::<i64>(&row, 3)?)));
        let filter = filter.transpose()?.map(|(id, keys)| (id, keys.cast_unsigned()));
        listed.push(Listed { number, is_open: last_seq.is_none(), was_events: false, filter });
        match last_seq {
            Some(last_seq) => _ = last_seqs.insert(number, last_seq),
            None if get(&row, 5)? => open = Some(Open::new(number, get(&row, 1)?)),
            None => {}
        }
    }
    let groups = groups(connection).await.map_err(of_statement)?;
    // Which events were removed is read in each transaction.
    Ok(Layout { list: List::of(version, i64::MIN, listed, groups)?, open, last_seqs })
}

fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(row: &'r SqliteRow, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(of_statement)
}

/// Returns the groups whose filter is complete, the newest first.
async fn groups(connection: &mut SqliteConnection) -> Result<Vec<Group>, sqlx::Error> {
    let select = sqlx::query_as::<_, (i32, i32, u32, String, i64)>(
        "SELECT first_partition, last_partition, level, filter, keys FROM key_filter_groups \
         WHERE is_complete ORDER BY first_partition DESC",
    );
    let group = |(first, last, level, id, keys): (i32, i32, u32, String, i64)| Group {
        first,
        last,
        level,
        filter: FilterName { partition: first, id },
        keys: keys.cast_unsigned(),
    };
    Ok(select.fetch_all(connection).await?.into_iter().map(group).collect())
}

impl Layout {
    /// Returns whether a closed partition can have a key of this event or a later one.
    pub fn has_keys_since(&self, closed: i32, first_seq: i64) -> bool {
        self.last_seqs.get(&closed).is_some_and(|last_seq| *last_seq >= first_seq)
    }
}
