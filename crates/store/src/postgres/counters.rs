//! The counters. They are incremented by a prepared statement whose values are part of the text of the call,
//! so that it can be sent together with COMMIT in one round trip.

use std::collections::BTreeMap;

use sqlx::{Connection, PgConnection};

use super::arrival_marks;
use super::connections::Lease;
use super::errors::within;
use super::ledger;
use super::meters::COUNTS_METERS;
use crate::{Counts, StoreError};

/// Prepares the statement that increments the counters. Topics and shard are passed as the hexadecimal of
/// their bytes, which contains nothing that would have to be escaped.
pub(super) const PREPARE: &str = "PREPARE add_counts (text[], text, int8[], int8[], int8[], int8[]) AS \
     INSERT INTO counters AS c (topic, shard, received, unique_processed, duplicate_dropped, conflicts) \
     SELECT convert_from(decode(topic, 'hex'), 'UTF8'), convert_from(decode($2, 'hex'), 'UTF8'), \
            received, uniques, duplicates, conflicts \
     FROM unnest($1, $3, $4, $5, $6) AS n (topic, received, uniques, duplicates, conflicts) \
     ON CONFLICT (topic, shard) DO UPDATE SET \
         received = c.received + excluded.received, \
         unique_processed = c.unique_processed + excluded.unique_processed, \
         duplicate_dropped = c.duplicate_dropped + excluded.duplicate_dropped, \
         conflicts = c.conflicts + excluded.conflicts";

/// Returns the call of that statement. The rows are in the order of the topics, so that two transactions
/// never deadlock, even if they share a shard.
pub(super) fn execute(shard: &str, counts: &BTreeMap<&str, Counts>) -> String {
    // In quotes, because an empty topic without them would be no element.
    let topics = list(counts.keys().map(|topic| format!("\"{}\"", hex(topic))));
    let column = |pick: fn(&Counts) -> u64| list(counts.values().map(|counts| pick(counts).to_string()));
    format!(
        "EXECUTE add_counts ({topics}, '{}', {}, {}, {}, {})",
        hex(shard),
        column(|c| c.received),
        column(|c| c.unique),
        column(|c| c.duplicates),
        column(|c| c.conflicts),
    )
}

/// The shard that has the counts of consumers that are gone. Each other shard has a `/` in its name.
const FORMER: &str = "former consumers";
/// Rows added up in one transaction.
const CHUNK: i64 = 5_000;

/// Adds up the rows whose shard belongs to none of these consumers (`consumer/worker`), in the shard of former
/// consumers, and does the same with the ledger. Returns how many rows of counters. If one of them commits at this
/// time all the same, its rows are left for the next time, without a wait; and a commit that meets a row while it is
/// deleted waits, and begins a new one.
pub(super) async fn fold(lease: &mut Lease, schema: &str, consumers: &[String]) -> Result<u64, StoreError> {
    let deadline = lease.deadline();
    let mut total = 0;
    loop {
        let folded = within(deadline, fold_chunk(lease, schema, consumers)).await;
        let folded = lease.converted(folded)?;
        total += folded.cast_unsigned();
        if folded < CHUNK {
            return Ok(total);
        }
    }
}

async fn fold_chunk(connection: &mut PgConnection, schema: &str, consumers: &[String]) -> Result<i64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if !arrival_marks::try_lock(&mut transaction, schema).await? {
        transaction.rollback().await?;
        return Ok(0);
    }
    sqlx::raw_sql(COUNTS_METERS).execute(&mut *transaction).await?;
    let fold = sqlx::query_scalar(
        "WITH gone AS ( \
             DELETE FROM counters WHERE ctid = ANY (ARRAY ( \
                 SELECT ctid FROM counters WHERE shard <> $1 \
                   AND NOT EXISTS (SELECT FROM unnest($2::text[]) AS n (name) WHERE starts_with(shard, name || '/')) \
                 LIMIT $3 FOR UPDATE SKIP LOCKED)) \
             RETURNING topic, received, unique_processed, duplicate_dropped, conflicts), \
         added AS ( \
             INSERT INTO counters AS c (topic, shard, received, unique_processed, duplicate_dropped, conflicts) \
             SELECT topic, $1, sum(received), sum(unique_processed), sum(duplicate_dropped), sum(conflicts) \
             FROM gone GROUP BY topic \
             ON CONFLICT (topic, shard) DO UPDATE SET \
                 received = c.received + excluded.received, \
                 unique_processed = c.unique_processed + excluded.unique_processed, \
                 duplicate_dropped = c.duplicate_dropped + excluded.duplicate_dropped, \
                 conflicts = c.conflicts + excluded.conflicts) \
         SELECT count(*) FROM gone",
    );
    let folded = fold.bind(FORMER).bind(consumers).bind(CHUNK).fetch_one(&mut *transaction).await?;
    ledger::fold(&mut transaction, FORMER, consumers, CHUNK).await?;
    transaction.commit().await?;
    Ok(folded)
}

/// Returns an array of PostgreSQL with these values.
pub(super) fn list(values: impl Iterator<Item = String>) -> String {
    format!("'{{{}}}'", values.collect::<Vec<_>>().join(","))
}

/// Returns the hexadecimal of a text's bytes.
pub(super) fn hex(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len() * 2), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_shards_are_in_the_statement_as_hexadecimal_only() {
        let one = Counts { received: 3, unique: 2, duplicates: 1, conflicts: 0 };
        let counts = BTreeMap::from([("", one), ("'); DROP", one), ("{\"ü", Counts::default())]);
        assert_eq!(
            execute("a/0", &counts),
            "EXECUTE add_counts ('{\"\",\"27293b2044524f50\",\"7b22c3bc\"}', '612f30', \
             '{3,3,0}', '{2,2,0}', '{1,1,0}', '{0,0,0}')"
        );
    }
}
