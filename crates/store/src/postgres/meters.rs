//! Meters: what [`crate::meters`] is made of.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;
use sluice_event::{Keyer, Timestamp};
use sluice_meter::fold::{Length, Skipped, WindowKey};
use sluice_meter::{Answer, Definition, Set, answer::Question};
use sqlx::{AssertSqlSafe, PgConnection};

use super::connections::Lease;
use super::insert;
use super::locks::lock_id;
use super::query;
use super::settings::PostgresSettings;
use crate::meters::{
    self, COLUMNS, Cut, MeterFigures, MeterReading, MeterRow, MeterSets, MeterStatus, MeterTables, PutMeter, Reading,
    StoredMeter, add_batch, add_window, meters_of,
};
use crate::{StoreError, StoredEvent};

/// What a transaction sets that counts meters: the trigger `require_meters` refuses all others.
pub(super) const COUNTS_METERS: &str = "SET LOCAL sluice.counts_meters = 'on'";
/// How long a change of the meters waits for a lock. Batches queue behind one of them.
const LOCK_TIMEOUT_MS: u32 = 2_000;

/// Returns the meters of a version, in the transaction of a batch that has read it.
pub(super) async fn with_version(lease: &mut Lease, sets: &MeterSets, version: i64) -> Result<Arc<Set>, StoreError> {
    if let Some(set) = sets.get(version) {
        return Ok(set);
    }
    let meters = read(lease).await?;
    sets.put(version, &meters)
}

/// Returns the statement that adds rows of a batch; `None` without rows. They are part of its text, so that it can be sent
/// together with COMMIT in one round trip.
pub(super) fn insert_rows(rows: &[Vec<u8>]) -> Option<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if rows.is_empty() {
        return None;
    }
    let bytes: usize = rows.iter().map(Vec::len).sum();
    let mut sql = String::with_capacity(64 + 2 * bytes + 8 * rows.len());
    sql.push_str("INSERT INTO meter_batches (content) VALUES ");
    for (at, row) in rows.iter().enumerate() {
        sql.push_str(if at > 0 { ", ('\\x" } else { "('\\x" });
        for byte in row {
            sql.push(char::from(DIGITS[usize::from(byte >> 4)]));
            sql.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        sql.push_str("')");
    }
    Some(sql)
}

/// Returns all meters.
pub(super) async fn read(lease: &mut Lease) -> Result<Vec<StoredMeter>, StoreError> {
    let select = AssertSqlSafe(format!("SELECT {} FROM meters ORDER BY id", COLUMNS));
    let rows = lease.fetch_all(sqlx::query_as::<_, MeterRow>(select)).await?;
    meters_of(rows)
}

/// Returns the meters as users see them.
pub(super) async fn status(lease: &mut Lease) -> Result<Vec<MeterStatus>, StoreError> {
    Ok(MeterStatus::of_all(read(lease).await?))
}

/// Adds or changes a meter.
pub(super) async fn put(
    lease: &mut Lease,
    settings: &PostgresSettings,
    name: &str,
    definition: &Definition,
) -> Result<PutMeter, StoreError> {
    meters::put(&mut Tables::new(lease, settings), name, definition).await
}

/// Removes a meter. Returns whether there was one.
pub(super) async fn delete(lease: &mut Lease, settings: &PostgresSettings, name: &str) -> Result<bool, StoreError> {
    meters::delete(&mut Tables::new(lease, settings), name).await
}

/// Does what [`meters::forget`] does.
pub(super) async fn forget(
    lease: &mut Lease,
    settings: &PostgresSettings,
    event: &StoredEvent,
) -> Result<(), StoreError> {
    meters::forget(&mut Tables::new(lease, settings), event).await
}

/// Does what [`meters::maintain`] does.
pub(super) async fn maintain(
    lease: &mut Lease,
    settings: &PostgresSettings,
) -> Result<Option<MeterFigures>, StoreError> {
    meters::maintain(&mut Tables::new(lease, settings)).await
}

/// Answers a question, from one snapshot.
pub(super) async fn answer(
    lease: &mut Lease,
    meter: i64,
    length: Length,
    question: Question,
) -> Result<MeterReading, StoreError> {
    let deadline = lease.deadline();
    let read = async {
        lease.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let answer = answer_in_snapshot(lease, meter, length, question).await?;
        lease.run("COMMIT").await?;
        Ok(answer)
    };
    let read = tokio::time::timeout(deadline, read).await;
    read.unwrap_or_else(|_| Err(StoreError::TooSlow("reading the figures of a meter".into())))
}

async fn answer_in_snapshot(
    lease: &mut Lease,
    meter: i64,
    length: Length,
    question: Question,
) -> Result<MeterReading, StoreError> {
    let exists = sqlx::query_as("SELECT EXISTS (SELECT FROM meters WHERE id = $1)").bind(meter);
    if !lease.fetch_one::<(bool,)>(exists).await?.0 {
        return Ok(MeterReading::Gone);
    }
    let ends = (question.boundaries.first().copied(), question.boundaries.last().copied());
    let (Some(first), Some(end)) = ends else { return Ok(MeterReading::Figures(Answer::new(question))) };
    let mut reading = Reading { meter, minutes: (first, end), answer: Answer::new(question) };
    let windows = sqlx::query_as::<_, (i64, Vec<u8>)>(
        "SELECT start, content FROM meter_windows WHERE meter = $1 AND length = $2 AND start >= $3 AND start < $4",
    );
    let mut windows = windows.bind(meter).bind(minutes(length)).bind(first).bind(end).fetch(&mut **lease);
    while let Some((start, content)) = next(&mut windows).await? {
        if !add_window(&mut reading, start, &content)? {
            return Ok(MeterReading::TooLarge);
        }
    }
    drop(windows);
    let mut batches = sqlx::query_as::<_, (Vec<u8>,)>("SELECT content FROM meter_batches").fetch(&mut **lease);
    while let Some((content,)) = next(&mut batches).await? {
        if !add_batch(&mut reading, &content)? {
            return Ok(MeterReading::TooLarge);
        }
    }
    drop(batches);
    Ok(MeterReading::Figures(reading.answer))
}

async fn next<T>(
    rows: &mut (impl futures::Stream<Item = Result<T, sqlx::Error>> + Unpin),
) -> Result<Option<T>, StoreError> {
    rows.try_next().await.map_err(super::errors::of_statement)
}

fn minutes(length: Length) -> i16 {
    i16::try_from(length.minutes()).unwrap_or_default()
}

/// The tables of a schema, on a connection.
struct Tables<'a> {
    lease: &'a mut Lease,
    schema: &'a str,
    keyer: &'a Keyer,
}

impl<'a> Tables<'a> {
    fn new(lease: &'a mut Lease, settings: &'a PostgresSettings) -> Self {
        Self { lease, schema: &settings.schema, keyer: &settings.keyer }
    }
}

/// The windows of a list as three arrays.
fn arrays(keys: &[WindowKey]) -> (Vec<i64>, Vec<i16>, Vec<i64>) {
    let ids = keys.iter().map(|key| key.meter).collect();
    (ids, keys.iter().map(|key| minutes(key.length)).collect(), keys.iter().map(|key| key.start).collect())
}

#[async_trait]
impl MeterTables for Tables<'_> {
    async fn begin(&mut self, wait: bool) -> Result<bool, StoreError> {
        self.lease
            .run(AssertSqlSafe(format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
            )))
            .await?;
        let id = lock_id(self.schema, "meters");
        if wait {
            self.lease.execute(sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(id)).await?;
            return Ok(true);
        }
        let lock = sqlx::query_as("SELECT pg_try_advisory_xact_lock($1)").bind(id);
        let (locked,): (bool,) = self.lease.fetch_one(lock).await?;
        if !locked {
            self.rollback().await?;
        }
        Ok(locked)
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        self.lease.run("COMMIT").await
    }

    async fn rollback(&mut self) -> Result<(), StoreError> {
        self.lease.run("ROLLBACK").await
    }

    async fn meters(&mut self) -> Result<Vec<StoredMeter>, StoreError> {
        read(self.lease).await
    }

    async fn cut(&mut self) -> Result<Cut, StoreError> {
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock_id(self.schema, "maintain"));
        self.lease.execute(lock).await?;
        // Every batch holds a weaker lock on it before it reads the version of the meters.
        self.lease.run("LOCK TABLE ONLY receipts IN SHARE ROW EXCLUSIVE MODE").await?;
        let select = sqlx::query_as(
            "SELECT last_batch() + 1, coalesce((SELECT first_seq FROM event_layout), 0), \
                    (SELECT value::int8 FROM settings WHERE name = 'dedup_horizon')",
        );
        let (batch, first_seq, horizon): (i64, i64, Option<i64>) = self.lease.fetch_one(select).await?;
        let horizon = horizon.and_then(Timestamp::from_micros);
        Ok(Cut { first_seq: first_seq.max(0), cut_seq: insert::seq(batch, 0), horizon })
    }

    async fn insert_meter(&mut self, name: &str, definition: &str, cut: Cut) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO meters (name, definition, created_at, complete_from, first_seq, cut_seq, backfilled_to) \
             VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000000)::int8, $3, $4, $5, $4 - 1)",
        );
        let insert = insert.bind(name).bind(definition).bind(cut.horizon.map(Timestamp::as_micros));
        self.lease.execute(insert.bind(cut.first_seq).bind(cut.cut_seq)).await
    }

    async fn update_definition(&mut self, id: i64, definition: &str) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE meters SET definition = $2 WHERE id = $1").bind(id).bind(definition);
        self.lease.execute(update).await
    }

    async fn remove_meter(&mut self, id: i64) -> Result<(), StoreError> {
        let remove = sqlx::query(
            "WITH gone AS (DELETE FROM meters WHERE id = $1 RETURNING id) \
             INSERT INTO removed_meters SELECT id FROM gone ON CONFLICT DO NOTHING",
        );
        self.lease.execute(remove.bind(id)).await
    }

    async fn change_version(&mut self) -> Result<(), StoreError> {
        self.lease.run("UPDATE meter_version SET version = version + 1").await
    }

    async fn batches(&mut self, max_rows: u32, max_bytes: u64) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        // The sizes are known without reading the contents.
        let select = sqlx::query_as(
            "WITH oldest AS ( \
                 SELECT id, sum(octet_length(content)) OVER (ORDER BY id) AS bytes, row_number() OVER (ORDER BY id) AS n \
                 FROM (SELECT id, content FROM meter_batches ORDER BY id LIMIT $1) AS b) \
             SELECT b.id, b.content FROM oldest JOIN meter_batches AS b USING (id) \
             WHERE oldest.bytes <= $2 OR oldest.n = 1 ORDER BY b.id",
        );
        self.lease.fetch_all(select.bind(i64::from(max_rows)).bind(max_bytes.cast_signed())).await
    }

    async fn insert_batch(&mut self, row: Vec<u8>) -> Result<(), StoreError> {
        self.lease.execute(sqlx::query("INSERT INTO meter_batches (content) VALUES ($1)").bind(row)).await
    }

    async fn remove_batches(&mut self, ids: &[i64]) -> Result<(), StoreError> {
        self.lease.execute(sqlx::query("DELETE FROM meter_batches WHERE id = ANY ($1)").bind(ids.to_vec())).await
    }

    async fn sizes(&mut self, keys: &[WindowKey]) -> Result<HashMap<WindowKey, u64>, StoreError> {
        let (meters, lengths, starts) = arrays(keys);
        let select = sqlx::query_as::<_, (i64, i16, i64, i32)>(
            "SELECT w.meter, w.length, w.start, octet_length(w.content) \
             FROM unnest($1::int8[], $2::int2[], $3::int8[]) AS k (meter, length, start) \
             JOIN meter_windows AS w USING (meter, length, start)",
        );
        let rows = self.lease.fetch_all(select.bind(meters).bind(lengths).bind(starts)).await?;
        let sized = |(meter, minutes, start, bytes): (i64, i16, i64, i32)| {
            (WindowKey { meter, length: Length::of_minutes(minutes.into()), start }, u64::from(bytes.unsigned_abs()))
        };
        Ok(rows.into_iter().map(sized).collect())
    }

    async fn contents(&mut self, keys: &[WindowKey]) -> Result<Vec<(WindowKey, Vec<u8>)>, StoreError> {
        let (meters, lengths, starts) = arrays(keys);
        let select = sqlx::query_as::<_, (i64, i16, i64, Vec<u8>)>(
            "SELECT w.meter, w.length, w.start, w.content \
             FROM unnest($1::int8[], $2::int2[], $3::int8[]) AS k (meter, length, start) \
             JOIN meter_windows AS w USING (meter, length, start)",
        );
        let rows = self.lease.fetch_all(select.bind(meters).bind(lengths).bind(starts)).await?;
        let key = |(meter, minutes, start, content): (i64, i16, i64, Vec<u8>)| {
            (WindowKey { meter, length: Length::of_minutes(minutes.into()), start }, content)
        };
        Ok(rows.into_iter().map(key).collect())
    }

    async fn put_windows(&mut self, windows: Vec<(WindowKey, Vec<u8>)>) -> Result<(), StoreError> {
        let (keys, contents): (Vec<_>, Vec<_>) = windows.into_iter().unzip();
        let (meters, lengths, starts) = arrays(&keys);
        let put = sqlx::query(
            "INSERT INTO meter_windows (meter, length, start, content) \
             SELECT * FROM unnest($1::int8[], $2::int2[], $3::int8[], $4::bytea[]) \
             ON CONFLICT (meter, length, start) DO UPDATE SET content = excluded.content",
        );
        self.lease.execute(put.bind(meters).bind(lengths).bind(starts).bind(contents)).await
    }

    async fn add_to_meter(&mut self, id: i64, windows: i64, skipped: &Skipped) -> Result<(), StoreError> {
        let add = sqlx::query(
            "UPDATE meters SET windows = windows + $2, skipped = skipped + $3, example = coalesce($4, example) \
             WHERE id = $1",
        );
        let add = add.bind(id).bind(windows).bind(skipped.events.cast_signed()).bind(skipped.example.clone());
        self.lease.execute(add).await
    }

    async fn events(
        &mut self,
        after: i64,
        before: i64,
        max_rows: u32,
        max_bytes: u64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        query::events_between(self.lease, self.keyer, (after, before), max_rows, max_bytes).await
    }

    async fn set_backfilled(&mut self, id: i64, to: Option<i64>) -> Result<(), StoreError> {
        let set = sqlx::query("UPDATE meters SET backfilled_to = $2 WHERE id = $1").bind(id).bind(to);
        self.lease.execute(set).await
    }

    async fn remove_windows(&mut self, id: i64, length: Length, before: i64, max: u32) -> Result<u64, StoreError> {
        let remove = sqlx::query_as(
            "WITH gone AS ( \
                 DELETE FROM meter_windows WHERE (meter, length, start) IN ( \
                     SELECT meter, length, start FROM meter_windows \
                     WHERE meter = $1 AND length = $2 AND start < $3 ORDER BY start LIMIT $4) RETURNING 1) \
             SELECT count(*) FROM gone",
        );
        let remove = remove.bind(id).bind(minutes(length)).bind(before).bind(i64::from(max));
        let (removed,): (i64,) = self.lease.fetch_one(remove).await?;
        Ok(removed.cast_unsigned())
    }

    async fn removed_meter(&mut self) -> Result<Option<i64>, StoreError> {
        let select = sqlx::query_as("SELECT id FROM removed_meters ORDER BY id LIMIT 1");
        Ok(self.lease.fetch_optional::<(i64,)>(select).await?.map(|(id,)| id))
    }

    async fn forget_meter(&mut self, id: i64) -> Result<(), StoreError> {
        self.lease.execute(sqlx::query("DELETE FROM removed_meters WHERE id = $1").bind(id)).await
    }

    async fn now(&mut self) -> Result<Timestamp, StoreError> {
        let select = sqlx::query_as("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8");
        let (micros,): (i64,) = self.lease.fetch_one(select).await?;
        Timestamp::from_micros(micros)
            .ok_or_else(|| StoreError::Failed("the time of the server is out of range".into()))
    }
}

/// Returns the last event that every backfill has counted; `None` if no meter has one that is not complete.
pub(super) async fn backfilled_to(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT min(backfilled_to) FROM meters").fetch_one(connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_statement_as_hexadecimal_only() {
        assert_eq!(insert_rows(&[]), None);
        let sql = insert_rows(&[b"');\x00\xff".to_vec(), Vec::new()]).unwrap();
        assert_eq!(sql, "INSERT INTO meter_batches (content) VALUES ('\\x27293b00ff'), ('\\x')");
    }
}
