//! The queries of a subject that is bounded by topics.

use futures::TryStreamExt;
use sluice_event::Timestamp;
use sqlx::Row as _;

use super::connections::Lease;
use super::errors::within;
use super::query::{TopicRow, counts};
use crate::bounded::StatisticsBuilder;
use crate::{Patterns, Statistics, StoreError, TopicPage, TopicSelection};

/// Returns the topics that match, unless they are too many. The counters have every topic.
pub(super) async fn select_topics(lease: &mut Lease, patterns: &Patterns) -> Result<TopicSelection, StoreError> {
    let select =
        sqlx::query_as::<_, (String,)>("SELECT topic FROM counters WHERE topic LIKE ANY ($1) GROUP BY topic LIMIT $2");
    let found = lease.fetch_all(select.bind(patterns.like()).bind(TopicSelection::MAX_FOUND)).await?;
    Ok(TopicSelection::of_found(patterns, found.into_iter().map(|(topic,)| topic).collect()))
}

/// Returns a page of the topics that match.
pub(super) async fn topics(
    lease: &mut Lease,
    patterns: &Patterns,
    after: Option<&str>,
    limit: u32,
) -> Result<TopicPage, StoreError> {
    // No text is before the empty one, but a topic may be empty.
    let select = sqlx::query_as::<_, TopicRow>(
        "SELECT topic, sum(received)::int8, sum(unique_processed)::int8, sum(duplicate_dropped)::int8, \
                sum(conflicts)::int8 \
         FROM counters WHERE topic LIKE ANY ($2) AND topic >= $3 AND topic IS DISTINCT FROM $4 \
         GROUP BY topic ORDER BY topic LIMIT $1",
    );
    let select = select.bind(i64::from(limit) + 1).bind(patterns.like()).bind(after.unwrap_or_default()).bind(after);
    let rows = lease.fetch_all(select).await?;
    let mut page = TopicPage::new(rows.into_iter().map(|TopicRow(topic, counts)| (topic, counts)).collect(), limit);
    page.topics.retain(|(topic, _)| patterns.allow(topic));
    Ok(page)
}

/// Returns the statistics of the topics that match. One statement, so one snapshot; its rows are added up one by one.
pub(super) async fn statistics(
    lease: &mut Lease,
    patterns: &Patterns,
    max_topics: u32,
) -> Result<Statistics, StoreError> {
    let select = sqlx::query(
        "SELECT topic, sum(received)::int8, sum(unique_processed)::int8, sum(duplicate_dropped)::int8, \
                sum(conflicts)::int8, NULL::int8, NULL::int8 \
         FROM counters WHERE topic LIKE ANY ($1) GROUP BY topic \
         UNION ALL \
         SELECT topic, 0, 0, 0, 0, sum(events)::int8, NULL \
         FROM dead_letters WHERE topic LIKE ANY ($1) GROUP BY topic \
         UNION ALL \
         SELECT NULL, 0, 0, 0, 0, NULL, value::int8 FROM settings WHERE name = 'dedup_horizon'",
    );
    let deadline = lease.deadline();
    let mut statistics = StatisticsBuilder::new(patterns, max_topics);
    let read = async {
        let mut rows = select.bind(patterns.like()).fetch(&mut **lease);
        while let Some(row) = rows.try_next().await? {
            match (row.try_get::<Option<String>, _>(0)?, row.try_get::<Option<i64>, _>(5)?) {
                (Some(topic), None) => statistics.add_topic(topic, counts(&row)?),
                (Some(topic), Some(events)) => statistics.add_dead_letters(&topic, events.cast_unsigned()),
                (None, _) => {
                    statistics.set_dedup_horizon(row.try_get::<Option<i64>, _>(6)?.and_then(Timestamp::from_micros));
                }
            }
        }
        Ok(())
    };
    let read = within(deadline, read).await;
    lease.converted(read)?;
    Ok(statistics.build())
}

/// Returns the topic of a dead letter that is a single event.
pub(super) async fn dead_letter_topic(lease: &mut Lease, id: i64) -> Result<Option<String>, StoreError> {
    let select = sqlx::query_as::<_, (Option<String>,)>("SELECT topic FROM dead_letters WHERE id = $1").bind(id);
    Ok(lease.fetch_optional(select).await?.and_then(|(topic,)| topic))
}
