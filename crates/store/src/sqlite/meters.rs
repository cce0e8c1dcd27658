//! Meters: what [`crate::meters`] is made of.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use futures::TryStreamExt;
use sluice_event::{Keyer, Timestamp};
use sluice_meter::fold::{Length, Skipped, WindowKey};
use sluice_meter::{Answer, Set, answer::Question};
use sqlx::{AssertSqlSafe, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::bulk::Bulk;
use super::errors::of_statement;
use super::query;
use super::writer::{self, Writer};
use crate::meters::{COLUMNS, add_batch, add_window, meters_of};
use crate::meters::{Cut, MeterReading, MeterRow, MeterSets, MeterTables, Reading, StoredMeter};
use crate::topics::json;
use crate::{StoreError, StoredEvent};

static PUT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO meter_windows (meter, length, start, content) VALUES",
        "(?,?,?,?)",
        "ON CONFLICT (meter, length, start) DO UPDATE SET content = excluded.content",
    )
});
static SIZES: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "SELECT meter, length, start, length(content) FROM meter_windows WHERE (meter, length, start) IN (VALUES",
        "(?,?,?)",
        ")",
    )
});
static CONTENTS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "SELECT meter, length, start, content FROM meter_windows WHERE (meter, length, start) IN (VALUES",
        "(?,?,?)",
        ")",
    )
});

/// What follows the dedup fields in their record while there are meters, for versions that do not know meters: events that they
/// stored would not be counted.
pub(super) const METERS_MARK: &str = " by a version that counts meters, as older ones cannot";

/// Returns the meters that are in force in the transaction of a batch.
pub(super) async fn in_force(connection: &mut SqliteConnection, sets: &MeterSets) -> Result<Arc<Set>, StoreError> {
    let version = sqlx::query_scalar("SELECT version FROM meter_version");
    let version: i64 = version.fetch_one(&mut *connection).await.map_err(of_statement)?;
    match sets.get(version) {
        Some(set) => Ok(set),
        None => sets.put(version, &read(connection).await?),
    }
}

/// Adds rows of a batch.
pub(super) async fn insert_rows(connection: &mut SqliteConnection, rows: Vec<Vec<u8>>) -> Result<(), StoreError> {
    for row in rows {
        let insert = sqlx::query("INSERT INTO meter_batches (content) VALUES (?)").bind(row);
        insert.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok(())
}

/// Returns all meters.
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Vec<StoredMeter>, StoreError> {
    let select = AssertSqlSafe(format!("SELECT {} FROM meters ORDER BY id", COLUMNS));
    let rows = sqlx::query_as::<_, MeterRow>(select).fetch_all(connection).await.map_err(of_statement)?;
    meters_of(rows)
}

/// Answers a question, from one snapshot.
pub(super) async fn answer(
    connection: &mut SqliteConnection,
    meter: i64,
    length: Length,
    question: Question,
) -> Result<MeterReading, StoreError> {
    let mut snapshot = sqlx::Connection::begin(connection).await.map_err(of_statement)?;
    let exists = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM meters WHERE id = ?)").bind(meter);
    if !exists.fetch_one(&mut *snapshot).await.map_err(of_statement)? {
        return Ok(MeterReading::Gone);
    }
    let ends = (question.boundaries.first().copied(), question.boundaries.last().copied());
    let (Some(first), Some(end)) = ends else { return Ok(MeterReading::Figures(Answer::new(question))) };
    let mut reading = Reading { meter, minutes: (first, end), answer: Answer::new(question) };
    let windows = sqlx::query_as::<_, (i64, Vec<u8>)>(
        "SELECT start, content FROM meter_windows WHERE meter = ? AND length = ? AND start >= ? AND start < ?",
    );
    let mut windows = windows.bind(meter).bind(length.minutes()).bind(first).bind(end).fetch(&mut *snapshot);
    while let Some((start, content)) = windows.try_next().await.map_err(of_statement)? {
        if !add_window(&mut reading, start, &content)? {
            return Ok(MeterReading::TooLarge);
        }
    }
    drop(windows);
    let mut batches = sqlx::query_as::<_, (Vec<u8>,)>("SELECT content FROM meter_batches").fetch(&mut *snapshot);
    while let Some((content,)) = batches.try_next().await.map_err(of_statement)? {
        if !add_batch(&mut reading, &content)? {
            return Ok(MeterReading::TooLarge);
        }
    }
    drop(batches);
    snapshot.rollback().await.map_err(of_statement)?;
    Ok(MeterReading::Figures(reading.answer))
}

/// Returns the last event that every backfill has counted; `None` if no meter has one that is not complete.
pub(super) async fn backfilled_to(connection: &mut SqliteConnection) -> Result<Option<i64>, StoreError> {
    let select = sqlx::query_scalar("SELECT min(backfilled_to) FROM meters");
    select.fetch_one(connection).await.map_err(of_statement)
}

/// The tables of the file. Between two transactions the writer is free for batches.
pub(super) struct Tables<'a> {
    writer: &'a Arc<Mutex<Writer>>,
    keyer: &'a Keyer,
    /// The writer, while a transaction is running.
    guard: Option<OwnedMutexGuard<Writer>>,
    last_seq: i64,
}

impl<'a> Tables<'a> {
    pub fn new(writer: &'a Arc<Mutex<Writer>>, keyer: &'a Keyer) -> Self {
        Self { writer, keyer, guard: None, last_seq: 0 }
    }

    async fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        match &mut self.guard {
            Some(writer) => writer.current().await,
            None => Err(StoreError::Failed("no transaction was begun".into())),
        }
    }

    async fn execute(&mut self, text: &'static str, values: &[i64]) -> Result<(), StoreError> {
        let query = values.iter().fold(sqlx::query(text), |query, value| query.bind(*value));
        query.execute(self.connection().await?).await.map(|_| ()).map_err(of_statement)
    }
}

impl Drop for Tables<'_> {
    /// The next use of the writer would roll the transaction back, but until then it would lock the file.
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take()
            && guard.is_in_transaction()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { guard.connection().await.map(|_| ()) });
        }
    }
}

#[async_trait]
impl MeterTables for Tables<'_> {
    async fn begin(&mut self, _wait: bool) -> Result<bool, StoreError> {
        let mut guard = writer::lock(self.writer).await?;
        self.last_seq = guard.begin().await?;
        self.guard = Some(guard);
        Ok(true)
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        if let Some(writer) = &mut self.guard {
            writer.commit().await?;
        }
        self.guard = None;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), StoreError> {
        if let Some(writer) = &mut self.guard {
            // Returns the connection outside of the transaction.
            writer.connection().await?;
        }
        self.guard = None;
        Ok(())
    }

    async fn meters(&mut self) -> Result<Vec<StoredMeter>, StoreError> {
        read(self.connection().await?).await
    }

    /// There is one transaction at a time, so this is one already.
    async fn cut(&mut self) -> Result<Cut, StoreError> {
        let cut_seq = self.last_seq + 1;
        let connection = self.connection().await?;
        let select = sqlx::query_as(
            "SELECT coalesce((SELECT min(seq) FROM events), 0), \
                    (SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'dedup_horizon')",
        );
        let (first_seq, horizon): (i64, Option<i64>) = select.fetch_one(connection).await.map_err(of_statement)?;
        Ok(Cut { first_seq, cut_seq, horizon: horizon.and_then(Timestamp::from_micros) })
    }

    async fn insert_meter(&mut self, name: &str, definition: &str, cut: Cut) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO meters (name, definition, created_at, complete_from, first_seq, cut_seq, backfilled_to) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5 - 1)",
        );
        let insert = insert
            .bind(name)
            .bind(definition)
            .bind(Timestamp::now().as_micros())
            .bind(cut.horizon.map(Timestamp::as_micros))
            .bind(cut.first_seq)
            .bind(cut.cut_seq);
        insert.execute(self.connection().await?).await.map_err(of_statement)?;
        let mark = "UPDATE settings SET value = value || ?1 WHERE name = 'dedup_fields' AND instr(value, ?1) = 0";
        sqlx::query(mark).bind(METERS_MARK).execute(self.connection().await?).await.map(|_| ()).map_err(of_statement)
    }

    async fn update_definition(&mut self, id: i64, definition: &str) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE meters SET definition = ? WHERE id = ?").bind(definition).bind(id);
        update.execute(self.connection().await?).await.map(|_| ()).map_err(of_statement)
    }

    async fn remove_meter(&mut self, id: i64) -> Result<(), StoreError> {
        self.execute("INSERT OR IGNORE INTO removed_meters SELECT id FROM meters WHERE id = ?", &[id]).await?;
        self.execute("DELETE FROM meters WHERE id = ?", &[id]).await?;
        let unmark = "UPDATE settings SET value = replace(value, ?1, '') \
                      WHERE name = 'dedup_fields' AND NOT EXISTS (SELECT 1 FROM meters)";
        sqlx::query(unmark).bind(METERS_MARK).execute(self.connection().await?).await.map(|_| ()).map_err(of_statement)
    }

    async fn change_version(&mut self) -> Result<(), StoreError> {
        self.execute("UPDATE meter_version SET version = version + 1", &[]).await
    }

    async fn batches(&mut self, max_rows: u32, max_bytes: u64) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let connection = self.connection().await?;
        let mut rows = sqlx::query_as::<_, (i64, Vec<u8>)>("SELECT id, content FROM meter_batches ORDER BY id LIMIT ?")
            .bind(max_rows)
            .fetch(connection);
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some((id, content)) = rows.try_next().await.map_err(of_statement)? {
            bytes += content.len() as u64;
            batches.push((id, content));
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(batches)
    }

    async fn insert_batch(&mut self, row: Vec<u8>) -> Result<(), StoreError> {
        insert_rows(self.connection().await?, vec![row]).await
    }

    async fn remove_batches(&mut self, ids: &[i64]) -> Result<(), StoreError> {
        let delete =
            sqlx::query("DELETE FROM meter_batches WHERE id IN (SELECT value FROM json_each(?))").bind(json(ids));
        delete.execute(self.connection().await?).await.map(|_| ()).map_err(of_statement)
    }

    async fn sizes(&mut self, keys: &[WindowKey]) -> Result<HashMap<WindowKey, u64>, StoreError> {
        let connection = self.connection().await?;
        let mut sizes = HashMap::new();
        for (text, keys) in SIZES.statements(keys) {
            let select = keys.iter().fold(sqlx::query_as::<_, (i64, i64, i64, i64)>(text), |select, key| {
                select.bind(key.meter).bind(key.length.minutes()).bind(key.start)
            });
            for (meter, minutes, start, bytes) in select.fetch_all(&mut *connection).await.map_err(of_statement)? {
                sizes.insert(WindowKey { meter, length: Length::of_minutes(minutes), start }, bytes.cast_unsigned());
            }
        }
        Ok(sizes)
    }

    async fn contents(&mut self, keys: &[WindowKey]) -> Result<Vec<(WindowKey, Vec<u8>)>, StoreError> {
        let connection = self.connection().await?;
        let mut contents = Vec::new();
        for (text, keys) in CONTENTS.statements(keys) {
            let select = keys.iter().fold(sqlx::query_as::<_, (i64, i64, i64, Vec<u8>)>(text), |select, key| {
                select.bind(key.meter).bind(key.length.minutes()).bind(key.start)
            });
            for (meter, minutes, start, content) in select.fetch_all(&mut *connection).await.map_err(of_statement)? {
                contents.push((WindowKey { meter, length: Length::of_minutes(minutes), start }, content));
            }
        }
        Ok(contents)
    }

    async fn put_windows(&mut self, windows: Vec<(WindowKey, Vec<u8>)>) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        for (text, windows) in PUT.statements(&windows) {
            let put = windows.iter().fold(sqlx::query(text), |put, (key, content)| {
                put.bind(key.meter).bind(key.length.minutes()).bind(key.start).bind(&**content)
            });
            put.execute(&mut *connection).await.map_err(of_statement)?;
        }
        Ok(())
    }

    async fn add_to_meter(&mut self, id: i64, windows: i64, skipped: &Skipped) -> Result<(), StoreError> {
        let add = sqlx::query(
            "UPDATE meters SET windows = windows + ?2, skipped = skipped + ?3, example = coalesce(?4, example) \
             WHERE id = ?1",
        );
        let add = add.bind(id).bind(windows).bind(skipped.events.cast_signed()).bind(skipped.example.as_deref());
        add.execute(self.connection().await?).await.map(|_| ()).map_err(of_statement)
    }

    async fn events(
        &mut self,
        after: i64,
        before: i64,
        max_rows: u32,
        max_bytes: u64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let keyer = self.keyer;
        query::events_between(self.connection().await?, keyer, (after, before), max_rows, max_bytes).await
    }

    async fn set_backfilled(&mut self, id: i64, to: Option<i64>) -> Result<(), StoreError> {
        let set = sqlx::query("UPDATE meters SET backfilled_to = ? WHERE id = ?").bind(to).bind(id);
        set.execute(self.connection().await?).await.map(|_| ()).map_err(of_statement)
    }

    async fn remove_windows(&mut self, id: i64, length: Length, before: i64, max: u32) -> Result<u64, StoreError> {
        let remove = sqlx::query(
            "DELETE FROM meter_windows WHERE rowid IN ( \
                 SELECT rowid FROM meter_windows WHERE meter = ? AND length = ? AND start < ? ORDER BY start LIMIT ?)",
        );
        let remove = remove.bind(id).bind(length.minutes()).bind(before).bind(max);
        let removed = remove.execute(self.connection().await?).await.map_err(of_statement)?;
        Ok(removed.rows_affected())
    }

    async fn removed_meter(&mut self) -> Result<Option<i64>, StoreError> {
        let select = sqlx::query_scalar("SELECT id FROM removed_meters ORDER BY id LIMIT 1");
        select.fetch_optional(self.connection().await?).await.map_err(of_statement)
    }

    async fn forget_meter(&mut self, id: i64) -> Result<(), StoreError> {
        self.execute("DELETE FROM removed_meters WHERE id = ?", &[id]).await
    }

    async fn now(&mut self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::now())
    }
}
