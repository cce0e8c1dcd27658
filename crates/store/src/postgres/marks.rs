//! The numbers of commits ([`crate::marks`]).

use std::time::Duration;

use sluice_log::replay::Marks;
use sqlx::AssertSqlSafe;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::connections::Lease;
use super::counters::{hex, list};
use crate::StoreError;
use crate::marks::{Number, StoredMarks};

/// Prepares the statement that numbers a commit. Workers are passed as the hexadecimal of their bytes, as topics are.
pub(super) const PREPARE: &str = "PREPARE mark_commit (text[], int8[]) AS \
     SELECT mark_commit(ARRAY(SELECT convert_from(decode(n.name, 'hex'), 'UTF8') \
         FROM unnest($1) WITH ORDINALITY AS n (name, place) ORDER BY place), $2, true)::text";

/// Returns the call of that statement.
pub(super) fn execute(number: &Number<'_>) -> String {
    let workers = list(number.workers().map(|(worker, _)| format!("\"{}\"", hex(worker))));
    let confirmed = list(number.workers().map(|(_, confirmed)| confirmed.to_string()));
    format!("EXECUTE mark_commit ({workers}, {confirmed})")
}

/// Reads the number from the last row of the answer.
pub(super) fn number(rows: &[PgRow]) -> Result<u64, StoreError> {
    let number = rows.last().and_then(|row| row.try_get::<&str, _>(0).ok()?.parse().ok());
    number.ok_or_else(|| StoreError::Failed("the number of a commit cannot be read".into()))
}

type Mark = (Option<String>, Option<i64>, Option<i64>, bool);

/// Returns all marks. In one statement with the question whether the server is a standby, which may lag behind.
pub(super) async fn read(lease: &mut Lease) -> Result<StoredMarks, StoreError> {
    let select = sqlx::query_as(
        "SELECT m.worker, m.number, (extract(epoch FROM m.committed_at) * 1000)::int8, pg_is_in_recovery() \
         FROM (VALUES (1)) AS one (row) LEFT JOIN commit_marks AS m ON true",
    );
    let rows: Vec<Mark> = lease.fetch_all(select.persistent(false)).await?;
    let mut marks = StoredMarks::default();
    for (worker, number, millis, is_standby) in rows {
        if is_standby {
            return Err(StoreError::Unavailable("the server is a standby".into()));
        }
        if let (Some(worker), Some(number)) = (worker, number) {
            // A mark that was raised and is not that of a commit has the time 0.
            let time = millis.map(i64::unsigned_abs).filter(|millis| *millis > 0);
            marks.committed_at.extend(time.map(|millis| (worker.clone(), millis)));
            marks.numbers.insert(worker, number.unsigned_abs());
        }
    }
    Ok(marks)
}

/// Raises lower marks, as a commit of a worker. The times of commits stay, and a mark that is not there gets none, because
/// they tell which commits were not lost: whoever ends the replay may ask once more.
pub(super) async fn raise(lease: &mut Lease, number: &Number<'_>, marks: &Marks) -> Result<u64, StoreError> {
    let workers = list(marks.keys().map(|worker| format!("\"{}\"", hex(worker))));
    let numbers = list(marks.values().map(u64::to_string));
    // In one round trip. The checks' session has nothing prepared, so the function is called directly.
    let own = list(number.workers().map(|(worker, _)| format!("\"{}\"", hex(worker))));
    let confirmed = list(number.workers().map(|(_, confirmed)| confirmed.to_string()));
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
         INSERT INTO commit_marks AS m (worker, number, committed_at) \
         SELECT convert_from(decode(n.name, 'hex'), 'UTF8'), n.number, 'epoch' \
         FROM unnest({workers}::text[], {numbers}::int8[]) AS n (name, number) ORDER BY 1 \
         ON CONFLICT (worker) DO UPDATE SET number = greatest(m.number, excluded.number); \
         SELECT mark_commit(ARRAY(SELECT convert_from(decode(n.name, 'hex'), 'UTF8') \
             FROM unnest({own}::text[]) WITH ORDINALITY AS n (name, place) ORDER BY place), {confirmed}::int8[], true)::text; \
         COMMIT"
    );
    let rows = lease.run_for_rows(AssertSqlSafe(sql)).await?;
    self::number(&rows)
}

/// Removes the marks of workers that are none of these and have not committed for so long.
pub(super) async fn forget(lease: &mut Lease, workers: &[String], age: Duration) -> Result<u64, StoreError> {
    let delete = sqlx::query_as(
        "WITH gone AS (DELETE FROM commit_marks WHERE worker <> ALL ($1) \
             AND committed_at < clock_timestamp() - $2 * interval '1 second' RETURNING 1) \
         SELECT count(*) FROM gone",
    );
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let (removed,): (i64,) = lease.fetch_one(delete.bind(workers).bind(seconds)).await?;
    Ok(removed.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn workers_are_in_the_statement_as_hexadecimal_only() {
        let confirmed = BTreeMap::from([("b/0".to_owned(), 2), ("'); DROP".to_owned(), 7)]);
        let call = execute(&Number { worker: "b/0", confirmed: &confirmed });
        assert_eq!(call, "EXECUTE mark_commit ('{\"622f30\",\"27293b2044524f50\"}', '{2,7}')");
    }
}
