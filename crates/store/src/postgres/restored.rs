//! Notices that the schema was restored from a dump, so that the feed begins a generation ([`crate::feed`]).

use sqlx::{AssertSqlSafe, PgConnection};

use super::errors::of_statement;
use super::insert::ORDINAL_BITS;
use crate::StoreError;

/// Begins a generation if the schema was restored from a dump: then numbers are given again. Called under the lock of
/// migrations, before anything is stored.
pub(super) async fn notice_restore(connection: &mut PgConnection) -> Result<(), StoreError> {
    let insert = sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO feed_generations (number, from_seq) \
         SELECT number + 1, ((last_batch() + 1) << {ORDINAL_BITS}) - 1 FROM feed_generations \
         WHERE number = (SELECT max(number) FROM feed_generations) AND place <> feed_place()"
    )));
    let noticed = insert.execute(connection).await.map_err(of_statement)?;
    if noticed.rows_affected() > 0 {
        tracing::warn!("the schema was restored from a dump: the feed may deliver events again");
    }
    Ok(())
}
