//! Erases events again that come back after they were erased.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::errors::of_statement;
use super::key_partitions::table;
use crate::StoreError;
use crate::erased::{PAYLOAD, PAYLOAD_HASH};

/// Erases events after a number that come back after they were erased.
pub(super) async fn erase_again(connection: &mut SqliteConnection, after_seq: i64) -> Result<(), StoreError> {
    let any = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM erasures)");
    let any: bool = any.fetch_one(&mut *connection).await.map_err(of_statement)?;
    if !any {
        return Ok(());
    }
    let erase = sqlx::query_as(
        "UPDATE events SET payload = ?, source = NULL, payload_hash = ? \
         WHERE seq > ? AND key IN (SELECT key FROM erasures) RETURNING key",
    );
    let erase = erase.bind(PAYLOAD).bind(PAYLOAD_HASH).bind(after_seq);
    let keys: Vec<(Vec<u8>,)> = erase.fetch_all(&mut *connection).await.map_err(of_statement)?;
    erase_hashes(connection, &keys).await
}

/// Removes the hashes of payloads that stand beside the keys.
pub(super) async fn erase_hashes(connection: &mut SqliteConnection, keys: &[(Vec<u8>,)]) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let partitions: Vec<i32> = sqlx::query_scalar("SELECT number FROM key_partitions")
        .fetch_all(&mut *connection)
        .await
        .map_err(of_statement)?;
    for number in partitions {
        for (key,) in keys {
            let text = format!("UPDATE {} SET payload_hash = ? WHERE key = ?", table(number));
            let update = sqlx::query(AssertSqlSafe(text)).persistent(false).bind(PAYLOAD_HASH).bind(&**key);
            update.execute(&mut *connection).await.map_err(of_statement)?;
        }
    }
    Ok(())
}
