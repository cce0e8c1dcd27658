//! Builds the filters of closed partitions.

use sluice_event::EventKey;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::super::errors::of_statement;
use super::super::readers::Readers;
use super::super::writer::{Writer, end};
use super::layout::{Closed, NEW_VERSION, table};
use crate::StoreError;
use crate::partitions::key_filter::{FilterName, Segment, first_key, segment_bits};

/// Builds the filter of a closed partition, segment by segment. Nothing in the partition changes any more, so it is
/// read beside the transactions that write.
pub(crate) async fn build(readers: &Readers, Closed { number, keys, .. }: &Closed) -> Result<Built, StoreError> {
    let id = "SELECT lower(hex(randomblob(16)))";
    let id: String = sqlx::query_scalar(id).fetch_one(&mut *readers.lease().await?).await.map_err(of_statement)?;
    let name = FilterName { partition: *number, id };
    let bits = segment_bits(*keys);
    let mut segments = Vec::with_capacity(1 << bits);
    for segment in 0..1 << bits {
        let keys = read(&mut *readers.lease().await?, *number, segment, bits).await.map_err(of_statement)?;
        let salt = name.salt(segment);
        let built = tokio::task::spawn_blocking(move || Segment::build(&keys, salt)).await;
        let built = built.map_err(|error| StoreError::Failed(error.to_string()))?.map_err(StoreError::Failed)?;
        segments.push(built.encode(&name, segment, bits));
    }
    Ok(Built { name, segments })
}

/// A filter that is not stored yet.
pub(crate) struct Built {
    name: FilterName,
    segments: Vec<Vec<u8>>,
}

impl Built {
    /// Stores it, if its partition has none and is still there.
    pub async fn store(&self, writer: &mut Writer) -> Result<(), StoreError> {
        writer.begin().await?;
        let stored = self.write(writer.current().await?).await.map_err(of_statement);
        end(writer, &stored).await?;
        if stored? {
            tracing::info!(partition = self.name.partition, "the filter of a partition of keys was built");
        }
        Ok(())
    }

    async fn write(&self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let name = sqlx::query(
            "UPDATE key_partitions SET filter = ? WHERE number = ? AND filter IS NULL AND last_seq IS NOT NULL",
        );
        let name = name.bind(&self.name.id).bind(self.name.partition).execute(&mut *connection).await?;
        if name.rows_affected() == 0 {
            return Ok(false);
        }
        for (number, content) in self.segments.iter().enumerate() {
            let insert = sqlx::query("INSERT INTO key_filters (filter, segment, content) VALUES (?, ?, ?)");
            insert.bind(&self.name.id).bind(number as i64).bind(&**content).execute(&mut *connection).await?;
        }
        sqlx::raw_sql(NEW_VERSION).execute(connection).await?;
        Ok(true)
    }
}

/// Forgets damaged filters, so that they are built again.
pub(crate) async fn forget(writer: &mut Writer, damaged: &[FilterName]) -> Result<(), StoreError> {
    writer.begin().await?;
    let forgotten = remove(writer.current().await?, damaged).await.map_err(of_statement);
    end(writer, &forgotten).await?;
    forgotten
}

async fn remove(connection: &mut SqliteConnection, damaged: &[FilterName]) -> Result<(), sqlx::Error> {
    for FilterName { partition, id } in damaged {
        let forget = sqlx::query("UPDATE key_partitions SET filter = NULL WHERE number = ? AND filter = ?");
        forget.bind(partition).bind(id).execute(&mut *connection).await?;
        sqlx::query("DELETE FROM key_filters WHERE filter = ?").bind(id).execute(&mut *connection).await?;
    }
    sqlx::raw_sql(NEW_VERSION).execute(connection).await.map(|_| ())
}

/// Reads the keys of a segment.
async fn read(
    reader: &mut SqliteConnection,
    number: i32,
    segment: u32,
    bits: u32,
) -> Result<Vec<EventKey>, sqlx::Error> {
    let is_last = segment + 1 == 1 << bits;
    let end = if is_last { "" } else { " AND key < ?2" };
    let text = AssertSqlSafe(format!("SELECT key FROM {} WHERE key >= ?1{end}", table(number)));
    let mut select = sqlx::query_scalar(text).persistent(false).bind(first_key(segment, bits));
    if !is_last {
        select = select.bind(first_key(segment + 1, bits));
    }
    select.fetch_all(reader).await
}
