//! Series: written by each batch as one row, which is added to the others later.
//!
//! If each transaction added to the row of a topic and minute, transactions would wait for each other. So each adds a row of
//! its own, with arrays, and [`fold`] adds them up, in one transaction, so that the sum of both tables never changes by it.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::connections::Lease;
use super::counters::{hex, list};
use super::errors::within;
use super::locks::lock_id;
use crate::StoreError;
use crate::retention_clock::micros;
use crate::series::{BatchCounts, Minute, SeriesCounts, SeriesQuery, SeriesRow, of_row};

/// Prepares the statement that adds the counts of a batch. Topics are passed as the hexadecimal of their bytes.
pub(super) const PREPARE: &str = "PREPARE add_series (text[], int8[], int8[], int8[], int8[], int8[], int8[]) AS \
     INSERT INTO series_batches \
         (topics, minutes, received, unique_processed, duplicate_dropped, conflicts, dead_lettered) \
     SELECT array_agg(convert_from(decode(topic, 'hex'), 'UTF8') ORDER BY n), $2, $3, $4, $5, $6, $7 \
     FROM unnest($1) WITH ORDINALITY AS t (topic, n)";

/// Returns the call of that statement.
pub(super) fn execute(counts: &BatchCounts<'_>) -> String {
    // In quotes, because an empty topic without them would be no element.
    let topics = list(counts.rows().map(|(topic, ..)| format!("\"{}\"", hex(topic))));
    let minutes = list(counts.rows().map(|(_, minute, _)| minute.0.to_string()));
    let column = |pick: fn(&SeriesCounts) -> u64| list(counts.rows().map(|(.., counts)| pick(&counts).to_string()));
    format!(
        "EXECUTE add_series ({topics}, {minutes}, {}, {}, {}, {}, {})",
        column(|c| c.counts.received),
        column(|c| c.counts.unique),
        column(|c| c.counts.duplicates),
        column(|c| c.counts.conflicts),
        column(|c| c.dead_lettered),
    )
}

/// Batches that are added up in one transaction.
const CHUNK: i64 = 500;
/// Rows that are removed in one transaction.
const REMOVE_CHUNK: i64 = 5_000;
/// Rows that one call removes at most.
const MAX_REMOVED: i64 = 100_000;

/// Adds up what batches have written, and removes the rows of minutes that ended longer ago than `retention`, by the clock of
/// the database. Does nothing if another replica is doing so at this time.
pub(super) async fn maintain(lease: &mut Lease, schema: &str, retention: Option<Duration>) -> Result<(), StoreError> {
    let deadline = lease.deadline();
    loop {
        let folded = within(deadline, fold(lease, schema)).await;
        if lease.converted(folded)? < CHUNK {
            break;
        }
    }
    let Some(retention) = retention else { return Ok(()) };
    let mut removed = 0;
    while removed < MAX_REMOVED {
        let delete = sqlx::query_as(
            "WITH gone AS ( \
                 DELETE FROM series WHERE ctid = ANY (ARRAY ( \
                     SELECT ctid FROM series WHERE minute < now() - $1 * interval '1 microsecond' \
                     LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1) \
             SELECT count(*) FROM gone",
        );
        let (deleted,): (i64,) = lease.fetch_one(delete.bind(micros(retention)).bind(REMOVE_CHUNK)).await?;
        removed += deleted;
        if deleted < REMOVE_CHUNK {
            break;
        }
    }
    Ok(())
}

/// Adds up a chunk. Returns how many batches it was.
async fn fold(connection: &mut PgConnection, schema: &str) -> Result<i64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let lock = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(lock_id(schema, "series"));
    if !lock.fetch_one(&mut *transaction).await? {
        transaction.rollback().await?;
        return Ok(0);
    }
    let fold = sqlx::query_scalar(
        "WITH gone AS ( \
             DELETE FROM series_batches WHERE ctid = ANY (ARRAY (SELECT ctid FROM series_batches LIMIT $1)) RETURNING *), \
         added AS ( \
             INSERT INTO series AS s \
                 (topic, minute, received, unique_processed, duplicate_dropped, conflicts, dead_lettered) \
             SELECT n.topic, to_timestamp(n.minute * 60.0), sum(n.received), sum(n.uniques), sum(n.duplicates), \
                    sum(n.conflicts), sum(n.dead_lettered) \
             FROM gone AS b, \
                  unnest(b.topics, b.minutes, b.received, b.unique_processed, b.duplicate_dropped, b.conflicts, \
                         b.dead_lettered) \
                      AS n (topic, minute, received, uniques, duplicates, conflicts, dead_lettered) \
             GROUP BY n.topic, n.minute ORDER BY n.minute, n.topic \
             ON CONFLICT (topic, minute) DO UPDATE SET \
                 received = s.received + excluded.received, \
                 unique_processed = s.unique_processed + excluded.unique_processed, \
                 duplicate_dropped = s.duplicate_dropped + excluded.duplicate_dropped, \
                 conflicts = s.conflicts + excluded.conflicts, \
                 dead_lettered = s.dead_lettered + excluded.dead_lettered) \
         SELECT count(*) FROM gone",
    );
    let folded = fold.bind(CHUNK).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(folded)
}

/// Returns the counts that are not zero, in the order of time, each with the first minute of its step.
pub(super) async fn read(
    lease: &mut Lease,
    SeriesQuery { topics, from, to, step }: &SeriesQuery,
) -> Result<Vec<(Minute, SeriesCounts)>, StoreError> {
    let select = sqlx::query_as::<_, SeriesRow>(
        "WITH minutes AS ( \
             SELECT topic, extract(epoch FROM minute)::int8 / 60 AS minute, received, unique_processed, \
                    duplicate_dropped, conflicts, dead_lettered \
             FROM series \
             WHERE minute >= to_timestamp($1 * 60.0) AND minute < to_timestamp($2 * 60.0) AND ($4::text[] IS NULL OR topic = ANY ($4)) \
             UNION ALL \
             SELECT n.* \
             FROM series_batches AS b, \
                  unnest(b.topics, b.minutes, b.received, b.unique_processed, b.duplicate_dropped, b.conflicts, \
                         b.dead_lettered) \
                      AS n (topic, minute, received, unique_processed, duplicate_dropped, conflicts, dead_lettered) \
             WHERE n.minute >= $1 AND n.minute < $2 AND ($4::text[] IS NULL OR n.topic = ANY ($4))) \
         SELECT minute - mod(mod(minute, $3) + $3, $3), sum(received)::int8, sum(unique_processed)::int8, \
                sum(duplicate_dropped)::int8, sum(conflicts)::int8, sum(dead_lettered)::int8 \
         FROM minutes GROUP BY 1 ORDER BY 1",
    );
    let select = select.bind(from.0).bind(to.0).bind(i64::from(*step)).bind(topics);
    let rows = lease.fetch_all(select).await?;
    Ok(rows.into_iter().map(of_row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counts;

    #[test]
    fn topics_are_in_the_statement_as_hexadecimal_only() {
        let mut counts = BatchCounts::default();
        let one = Counts { received: 3, unique: 2, duplicates: 1, conflicts: 0 };
        counts.add("", Minute(7), SeriesCounts { counts: one, dead_lettered: 4 });
        counts.add("'); DROP", Minute(-1), SeriesCounts { counts: one, dead_lettered: 0 });
        assert_eq!(
            execute(&counts),
            "EXECUTE add_series ('{\"\",\"27293b2044524f50\"}', '{7,-1}', '{3,3}', '{2,2}', '{1,1}', '{0,0}', '{4,0}')"
        );
    }
}
