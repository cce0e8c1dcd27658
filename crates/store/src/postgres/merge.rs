//! Merging the events of several topics in the order of arrival.

use sqlx::AssertSqlSafe;

use super::connections::Lease;
use crate::bounded::{Merged, merged_rows};
use crate::page::Step;
use crate::partitions::Layout;
use crate::{EventQuery, StoreError};

/// Returns the numbers of the newest events of several topics, newest first. The rows of other topics are not looked
/// at, nor those before `$4`, and no more than a bounded number of each topic: first the newest one of each, and then the rest of those topics
/// that can have an event in the step, down to the newest one of the last of these.
///
/// The tables are named, since the planner cannot tell from these conditions which ones are read
/// ([`super::event_partitions::TopicIndex::range`]).
const MERGE: &str = "
    WITH newest AS MATERIALIZED (
        SELECT t.topic, n.seq
        FROM unnest($1::text[]) AS t (topic)
        CROSS JOIN LATERAL (
            SELECT e.seq FROM {tables} e
            WHERE {newest}
            ORDER BY {column} DESC, e.seq DESC LIMIT 1) n
        ORDER BY n.seq DESC LIMIT $3),
    oldest AS MATERIALIZED (
        SELECT CASE WHEN count(*) < $3 THEN $4 ELSE min(seq) END AS seq FROM newest)
    SELECT k.seq
    FROM newest
    CROSS JOIN LATERAL (
        SELECT e.seq FROM {tables} e
        WHERE {rest}
        ORDER BY {column} DESC, e.seq DESC LIMIT $3) k
    ORDER BY k.seq DESC LIMIT $3";

/// Returns the numbers of the events from `lower` on that a step of a merged page looks at.
pub(super) async fn merge(
    lease: &mut Lease,
    layout: &Layout,
    query: &EventQuery,
    step: &Step,
    lower: i64,
    topics: &[String],
) -> Result<Merged, StoreError> {
    let rows = merged_rows(query, step, topics.len());
    let tables = layout.tables(lower, step.before);
    if tables.is_empty() {
        return Ok(Merged::default());
    }
    let columns = tables.iter().map(|table| format!("SELECT topic, seq FROM {table}"));
    let tables = format!("({})", columns.collect::<Vec<_>>().join(" UNION ALL "));
    let index = layout.topic_index(step.before);
    let text = MERGE
        .replace("{tables}", &tables)
        .replace("{newest}", &index.range("e", "t.topic", "$2", "$4"))
        .replace("{rest}", &index.range("e", "newest.topic", "$2", "(SELECT seq FROM oldest)"))
        .replace("{column}", &index.column("e"));
    let select = sqlx::query_as::<_, (i64,)>(AssertSqlSafe(text))
        .persistent(false)
        .bind(topics)
        .bind(step.before)
        .bind(i64::from(rows))
        .bind(lower);
    let seqs = lease.fetch_all(select).await?;
    Ok(Merged::new(seqs.into_iter().map(|(seq,)| seq).collect(), rows))
}
