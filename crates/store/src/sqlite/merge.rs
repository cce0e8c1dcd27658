//! Merging the events of several topics in the order of arrival.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use futures::TryStreamExt;
use sqlx::SqliteConnection;

use crate::EventQuery;
use crate::bounded::{Merged, merged_rows};
use crate::page::Step;
use crate::topics::json;

/// The newest event of each topic. The index on the topic, whose entries are in the order of `seq`, has all of it.
const NEWEST: &str = "SELECT value, (SELECT seq FROM events WHERE topic = value AND seq < ?2 ORDER BY seq DESC LIMIT 1) \
                      AS newest FROM json_each(?1) ORDER BY newest DESC LIMIT ?3";
/// The events of a topic, newest first.
const OF_TOPIC: &str = "SELECT seq FROM events WHERE topic = ?1 AND seq < ?2 AND seq > ?3 ORDER BY seq DESC LIMIT ?4";

/// Returns the numbers of the events that a step of a merged page looks at, newest first. The rows of other topics are
/// not looked at, and no more than a bounded number of each topic: first the newest one of each, and then the rest of
/// the topics one after another, each down to the oldest event that is still among the newest ones.
pub(super) async fn merge(
    reader: &mut SqliteConnection,
    query: &EventQuery,
    step: &Step,
    topics: &[String],
) -> Result<Merged, sqlx::Error> {
    let rows = merged_rows(query, step, topics.len());
    let newest = sqlx::query_as::<_, (String, Option<i64>)>(NEWEST).bind(json(topics)).bind(step.before).bind(rows);
    let newest = newest.fetch_all(&mut *reader).await?;
    // As many as the step has at most, the oldest first.
    let mut merged: BinaryHeap<Reverse<i64>> = BinaryHeap::new();
    for (topic, newest) in newest {
        let after = match merged.peek() {
            Some(&Reverse(oldest)) if merged.len() >= rows as usize => oldest,
            _ => i64::MIN,
        };
        if newest.is_none_or(|newest| newest < after) {
            break;
        }
        let mut seqs =
            sqlx::query_scalar(OF_TOPIC).bind(topic).bind(step.before).bind(after).bind(rows).fetch(&mut *reader);
        while let Some(seq) = seqs.try_next().await? {
            merged.push(Reverse(seq));
            if merged.len() > rows as usize {
                merged.pop();
                // What follows is older still.
                if merged.peek().is_some_and(|&Reverse(oldest)| seq < oldest) {
                    break;
                }
            }
        }
    }
    Ok(Merged::new(merged.into_sorted_vec().into_iter().map(|Reverse(seq)| seq).collect(), rows))
}
