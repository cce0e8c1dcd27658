//! The queries of a subject that is bounded by topics.

use futures::TryStreamExt;
use sluice_event::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::errors::of_statement;
use super::query::counts;
use crate::bounded::StatisticsBuilder;
use crate::{Patterns, Statistics, StoreError, TopicPage, TopicSelection};

/// Returns the topics that match, unless they are too many. The counters have every topic.
pub(super) async fn select_topics(
    reader: &mut SqliteConnection,
    patterns: &Patterns,
) -> Result<TopicSelection, StoreError> {
    let select = sqlx::query_scalar(
        "SELECT DISTINCT topic FROM counters WHERE EXISTS (SELECT 1 FROM json_each(?1) WHERE topic GLOB value) LIMIT ?2",
    );
    let select = select.bind(patterns.globs()).bind(TopicSelection::MAX_FOUND);
    let found = select.fetch_all(reader).await.map_err(of_statement)?;
    Ok(TopicSelection::of_found(patterns, found))
}

/// Returns a page of the topics that match.
pub(super) async fn topics(
    reader: &mut SqliteConnection,
    patterns: &Patterns,
    after: Option<&str>,
    limit: u32,
) -> Result<TopicPage, StoreError> {
    // No text is before the empty one, but a topic may be empty.
    let select = sqlx::query(
        "SELECT topic, sum(received), sum(unique_processed), sum(duplicate_dropped), sum(conflicts) \
         FROM counters WHERE topic >= ?1 AND topic IS NOT ?2 \
             AND EXISTS (SELECT 1 FROM json_each(?4) WHERE topic GLOB value) \
         GROUP BY topic ORDER BY topic LIMIT ?3",
    );
    let select = select.bind(after.unwrap_or_default()).bind(after).bind(i64::from(limit) + 1).bind(patterns.globs());
    let rows = select.fetch_all(reader).await.map_err(of_statement)?;
    let topic = |row: &SqliteRow| Ok((row.try_get(0)?, counts(row)?));
    let topics = rows.iter().map(topic).collect::<Result<_, sqlx::Error>>().map_err(of_statement)?;
    let mut page = TopicPage::new(topics, limit);
    page.topics.retain(|(topic, _)| patterns.allow(topic));
    Ok(page)
}

/// Returns the statistics of the topics that match. One statement, so one snapshot; its rows are added up one by one.
pub(super) async fn statistics(
    reader: &mut SqliteConnection,
    patterns: &Patterns,
    max_topics: u32,
) -> Result<Statistics, StoreError> {
    let select = sqlx::query(
        "SELECT topic, sum(received), sum(unique_processed), sum(duplicate_dropped), sum(conflicts), NULL, NULL \
         FROM counters WHERE EXISTS (SELECT 1 FROM json_each(?1) WHERE topic GLOB value) GROUP BY topic \
         UNION ALL \
         SELECT topic, 0, 0, 0, 0, sum(events), NULL \
         FROM dead_letters WHERE EXISTS (SELECT 1 FROM json_each(?1) WHERE topic GLOB value) GROUP BY topic \
         UNION ALL \
         SELECT NULL, 0, 0, 0, 0, NULL, CAST(value AS INTEGER) FROM settings WHERE name = 'dedup_horizon'",
    );
    let mut statistics = StatisticsBuilder::new(patterns, max_topics);
    let mut rows = select.bind(patterns.globs()).fetch(reader);
    while let Some(row) = rows.try_next().await.map_err(of_statement)? {
        add(&mut statistics, &row).map_err(of_statement)?;
    }
    Ok(statistics.build())
}

fn add(statistics: &mut StatisticsBuilder<'_>, row: &SqliteRow) -> Result<(), sqlx::Error> {
    match (row.try_get::<Option<String>, _>(0)?, row.try_get::<Option<i64>, _>(5)?) {
        (Some(topic), None) => statistics.add_topic(topic, counts(row)?),
        (Some(topic), Some(events)) => statistics.add_dead_letters(&topic, events.cast_unsigned()),
        (None, _) => {
            statistics.set_dedup_horizon(row.try_get::<Option<i64>, _>(6)?.and_then(Timestamp::from_micros));
        }
    }
    Ok(())
}

/// Returns the topic of a dead letter that is a single event.
pub(super) async fn dead_letter_topic(reader: &mut SqliteConnection, id: i64) -> Result<Option<String>, StoreError> {
    let select = sqlx::query_scalar::<_, Option<String>>("SELECT topic FROM dead_letters WHERE id = ?").bind(id);
    Ok(select.fetch_optional(reader).await.map_err(of_statement)?.flatten())
}
