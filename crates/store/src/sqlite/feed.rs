//! The feed of SQLite. There is one transaction at a time, so everything that is visible can be shown.

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::errors::{of_statement, within};
use super::query::EventRow;
use super::{SqliteStore, writer};
use crate::StoreError;
use crate::feed::{Feed, FeedPage, FeedQuery, Generation, Generations, PageBuilder, Place, Start, Step};

/// The columns of an event.
macro_rules! events {
    ($rest:literal) => {
        concat!(
            "SELECT seq, key, payload_hash, topic, event_id, ts, source, payload, received_at, request_id FROM events \
             WHERE seq > ?1 AND seq <= ?2 AND (?4 IS NULL OR source = ?4) ",
            $rest,
            " ORDER BY seq LIMIT ?3"
        )
    };
}

#[async_trait]
impl Feed for SqliteStore {
    async fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        within(async { self.page(&mut *self.lists.lease().await?, query).await }).await
    }

    async fn begin_generation(&self, loss: Option<u64>) -> Result<(), StoreError> {
        let mut writer = writer::lock(&self.writer).await?;
        let last = writer.begin().await?;
        let insert = sqlx::query(
            "INSERT INTO feed_generations (id, number, from_seq, loss) \
             SELECT randomblob(16), max(number) + 1, ?1, ?2 FROM feed_generations WHERE true ON CONFLICT (loss) DO NOTHING",
        );
        let insert = insert.bind(last).bind(loss.map(|loss| i64::try_from(loss).unwrap_or(i64::MAX)));
        let begun = insert.execute(writer.current().await?).await.map(|_| ()).map_err(of_statement);
        writer::end(&mut writer, &begun).await?;
        begun
    }
}

impl SqliteStore {
    async fn page(&self, reader: &mut SqliteConnection, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as("SELECT id, from_seq FROM feed_generations ORDER BY number")
            .fetch_all(&mut *reader)
            .await
            .map_err(of_statement)?;
        let id = |bytes: Vec<u8>| bytes.try_into().map(|bytes| Generation(u128::from_be_bytes(bytes)));
        let rows = rows.into_iter().map(|(bytes, from)| Ok((id(bytes)?, from))).collect::<Result<_, Vec<u8>>>();
        let generations =
            Generations::new(rows.map_err(|_| StoreError::Failed("the id of a generation has not 16 bytes".into()))?)?;
        let (last, end): (i64, i64) = sqlx::query_as(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0), \
                    coalesce((SELECT max(seq) FROM events), 0)",
        )
        .fetch_one(&mut *reader)
        .await
        .map_err(of_statement)?;
        let newest = Place { after: end, repeats: false };
        let Place { after, repeats } = generations.place(query.start, last).unwrap_or(newest);
        let end = if query.start == Start::Newest { after } else { end };
        let mut page = PageBuilder::new(query, generations.current(), after, end, repeats);
        while let Some(step) = page.next_step() {
            self.read_step(reader, query, step, &mut page).await.map_err(of_statement)?;
        }
        Ok(page.build())
    }

    async fn read_step(
        &self,
        reader: &mut SqliteConnection,
        query: &FeedQuery,
        step: Step,
        page: &mut PageBuilder,
    ) -> Result<(), sqlx::Error> {
        let upto = match step.rows {
            Some(rows) => last_of(reader, query.topic.as_deref(), step.after, page.end(), rows).await?,
            None => None,
        };
        let upto = upto.unwrap_or(page.end());
        let text = match (&query.topic, query.bounded_by()) {
            (None, None) => events!(""),
            (Some(_), _) => events!("AND topic = ?5"),
            (None, Some(_)) => events!("AND EXISTS (SELECT 1 FROM json_each(?5) WHERE topic GLOB value)"),
        };
        let mut select = sqlx::query(text).bind(step.after).bind(upto).bind(step.limit).bind(query.source.as_deref());
        select = match (&query.topic, query.bounded_by()) {
            (None, None) => select,
            (Some(topic), _) => select.bind(&**topic),
            (None, Some(patterns)) => select.bind(patterns.globs()),
        };
        let mut rows = select.fetch(reader);
        while let Some(row) = rows.try_next().await? {
            let event = <EventRow as sqlx::FromRow<SqliteRow>>::from_row(&row)?.0.check(&self.keyer);
            if !query.allows(&event) {
                page.skip(&event);
            } else if !page.push(event) {
                break;
            }
        }
        page.end_step(upto);
        Ok(())
    }
}

/// Returns the number of the last of so many rows, the oldest first; `None` if there are fewer.
async fn last_of(
    reader: &mut SqliteConnection,
    topic: Option<&str>,
    after: i64,
    upto: i64,
    rows: u32,
) -> Result<Option<i64>, sqlx::Error> {
    let text = match topic {
        None => "SELECT seq FROM events WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT 1 OFFSET ?3",
        Some(_) => "SELECT seq FROM events WHERE seq > ?1 AND seq <= ?2 AND topic = ?4 ORDER BY seq LIMIT 1 OFFSET ?3",
    };
    let mut select = sqlx::query_scalar(text).bind(after).bind(upto).bind(i64::from(rows) - 1);
    if let Some(topic) = topic {
        select = select.bind(topic);
    }
    select.fetch_optional(reader).await
}
