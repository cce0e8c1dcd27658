//! The aggregators' side: one consumer of the group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sluice_service::durability::Durability;
use sluice_service::encryption::Encryption;
use tokio::sync::Mutex;

use super::acknowledge::LastNoted;
use super::claim::Cursor;
use super::connect::Link;
use super::error::Fault;
use super::keys::{Prefix, StreamKeys};
use super::settings::ReaderSettings;
use super::{acknowledge, backlog, claim, consumers, extend_claim, group, notice, read, replay, streams, trim};
use crate::notice::{Notice, Tallies};
use crate::replay::{CommitMark, LogMarks, Marks, PendingReplay, ReplayLog, StreamReplay};
use crate::{Backlog, Claimed, ConsumerInfo, Delivered, LogError, LogReader, Position};

/// The number of streams, and the settings of the server, are read again after this time.
const STREAMS_TTL: Duration = Duration::from_secs(5);
/// How often an idle consumer resets its idle time.
const TOUCH_INTERVAL: Duration = Duration::from_secs(1);

/// Reads Redis streams as one consumer of the group. Connects when first used.
///
/// May be shared: each concurrent [`LogReader::read_new`] uses its own connection. A read that
/// is cancelled leaves the entries delivered to it pending, to be claimed.
pub struct RedisReader {
    settings: ReaderSettings,
    link: Link,
    prefix: Prefix,
    cached: Mutex<Option<CachedStreams>>,
    cursor: Mutex<Cursor>,
    touched: Mutex<Option<Instant>>,
    noted: LastNoted,
    /// Under which name this process has the right to replay: a second process of the same name has another one.
    owner: String,
}

struct CachedStreams {
    at: Instant,
    streams: Arc<[StreamKeys]>,
}

/// Runs an operation over all streams. When the group is missing, creates it and runs the operation again.
macro_rules! with_group {
    ($self:ident, |$streams:ident| $verb:expr) => {{
        let $streams = $self.streams().await?;
        match $verb.await {
            Err(Fault::NoGroup(reason)) => {
                tracing::warn!(reason, "the consumer group is missing: Redis lost its data");
                group::ensure(&$self.link, &$streams).await?;
                Ok($verb.await?)
            }
            other => Ok(other?),
        }
    }};
}

impl RedisReader {
    /// Creates a reader.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub fn new(settings: ReaderSettings) -> Result<Self, LogError> {
        let link = Link::new(&settings.url, &settings.tls, &settings.sentinel)?;
        Ok(Self {
            prefix: link.prefix(&settings.prefix),
            link,
            cached: Mutex::default(),
            cursor: Mutex::default(),
            touched: Mutex::default(),
            noted: LastNoted::default(),
            owner: format!("{} {:016x}", settings.consumer, rand::random::<u64>()),
            settings,
        })
    }

    /// Returns what the server promises, as it was last found.
    pub fn durability(&self) -> Durability {
        self.link.durability().clone()
    }

    /// Returns whether connections are encrypted.
    pub fn encryption(&self) -> Encryption {
        self.link.encryption().clone()
    }

    /// Returns the streams to read: those in use and those used in the past. Looks for new ones at intervals of
    /// [`STREAMS_TTL`].
    async fn streams(&self) -> Result<Arc<[StreamKeys]>, LogError> {
        let mut cached = self.cached.lock().await;
        if let Some(cached) = cached.as_ref().filter(|cached| cached.at.elapsed() < STREAMS_TTL) {
            return Ok(cached.streams.clone());
        }
        let at = Instant::now();
        let before = cached.as_ref().map(|cached| cached.streams.clone());
        let streams = match (self.find_streams(before.as_ref().map_or(0, |streams| streams.len())).await, before) {
            // A node of a cluster that is away must not hold up the streams on the others.
            (Err(error), Some(before)) if self.link.is_cluster() => {
                tracing::warn!(%error, "cannot look for new streams; trying again later");
                before
            }
            (found, _) => found?,
        };
        *cached = Some(CachedStreams { at, streams: streams.clone() });
        Ok(streams)
    }

    /// Returns at least this number of streams: a stream that was read may still have pending entries.
    async fn find_streams(&self, before: usize) -> Result<Arc<[StreamKeys]>, LogError> {
        self.link.check_server().await?;
        let highest = streams::highest(&self.link, &self.prefix).await?;
        let count = usize::from(highest.max(self.settings.streams).max(1)).max(before);
        let streams: Arc<[StreamKeys]> =
            (0..count).map(|number| StreamKeys::new(&self.prefix, number as u16)).collect();
        group::ensure(&self.link, streams.get(before..).unwrap_or_default()).await?;
        Ok(streams)
    }

    /// Resets the consumer's idle time after a read that found nothing, at most once per [`TOUCH_INTERVAL`].
    async fn touch(&self, streams: &[StreamKeys]) -> Result<(), Fault> {
        let mut touched = self.touched.lock().await;
        if touched.is_none_or(|at| at.elapsed() >= TOUCH_INTERVAL) {
            read::touch(&self.link, streams, &self.settings.consumer).await?;
            *touched = Some(Instant::now());
        }
        Ok(())
    }

    async fn read_or_touch(
        &self,
        streams: &[StreamKeys],
        entries: usize,
        wait: Duration,
    ) -> Result<Vec<Delivered>, Fault> {
        let read = read::new(&self.link, streams, &self.settings.consumer, entries, wait).await?;
        if read.is_empty() {
            self.touch(streams).await?;
        }
        Ok(read)
    }
}

#[async_trait]
impl LogReader for RedisReader {
    async fn read_own_pending(&self, after: Option<Position>, entries: usize) -> Result<Vec<Delivered>, LogError> {
        let consumer = &self.settings.consumer;
        with_group!(self, |streams| read::own_pending(&self.link, &streams, consumer, after, entries))
    }

    async fn read_new(&self, entries: usize, wait: Duration) -> Result<Vec<Delivered>, LogError> {
        with_group!(self, |streams| self.read_or_touch(&streams, entries, wait))
    }

    async fn claim(&self, idle: Duration, entries: usize) -> Result<Claimed, LogError> {
        let consumer = &self.settings.consumer;
        let mut cursor = self.cursor.lock().await;
        with_group!(self, |streams| claim::claim(&self.link, &streams, consumer, &mut cursor, idle, entries))
    }

    async fn extend_claim(&self, held: &[Position]) -> Result<(), LogError> {
        let (prefix, consumer) = (&self.prefix, &self.settings.consumer);
        with_group!(self, |_streams| extend_claim::extend_claim(&self.link, prefix, consumer, held))
    }

    async fn deliveries(&self, held: &[Position]) -> Result<Vec<u64>, LogError> {
        with_group!(self, |_streams| extend_claim::deliveries(&self.link, &self.prefix, held))
    }

    async fn acknowledge(&self, done: &[(Position, u64)]) -> Result<u64, LogError> {
        Ok(acknowledge::acknowledge(&self.link, &self.prefix, done, None, &self.noted).await?)
    }

    async fn acknowledge_commit(&self, done: &[(Position, u64)], mark: &CommitMark) -> Result<u64, LogError> {
        Ok(acknowledge::acknowledge(&self.link, &self.prefix, done, Some(mark), &self.noted).await?)
    }

    async fn trim(&self) -> Result<u64, LogError> {
        with_group!(self, |streams| trim::trim(&self.link, &streams, &self.settings))
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        with_group!(self, |streams| backlog::backlog(&self.link, &streams))
    }

    async fn consumers(&self) -> Result<Vec<ConsumerInfo>, LogError> {
        with_group!(self, |streams| consumers::list(&self.link, &streams))
    }

    async fn remove_departed(&self, idle: Duration) -> Result<Vec<String>, LogError> {
        let departed = |consumer: &ConsumerInfo| {
            consumer.name != self.settings.consumer && consumer.pending == 0 && consumer.idle >= idle
        };
        let names: Vec<_> = self.consumers().await?.into_iter().filter(departed).map(|c| c.name).collect();
        if names.is_empty() {
            return Ok(names);
        }
        with_group!(self, |streams| consumers::remove(&self.link, &streams, &names, idle))
    }

    async fn leave(&self) -> Result<bool, LogError> {
        let me = &self.settings.consumer;
        if self.consumers().await?.iter().any(|consumer| consumer.name == *me && consumer.pending > 0) {
            return Ok(false);
        }
        let me = std::slice::from_ref(me);
        let streams = self.streams().await?;
        consumers::remove(&self.link, &streams, me, Duration::ZERO).await?;
        Ok(!self.consumers().await?.iter().any(|consumer| consumer.name == me[0]))
    }

    async fn notice_tag(&self) -> Result<Option<String>, LogError> {
        Ok(notice::tag(&self.link, &self.prefix).await?)
    }

    async fn replace_notice(&self, notice: &Notice, before: Option<&str>) -> Result<bool, LogError> {
        Ok(notice::replace(&self.link, &self.prefix, notice, before).await?)
    }

    async fn tallies(&self) -> Result<Tallies, LogError> {
        Ok(notice::tallies(&self.link, &self.prefix).await?)
    }

    async fn forget_tallies(&self, names: &[String]) -> Result<(), LogError> {
        Ok(notice::forget(&self.link, &self.prefix, names).await?)
    }

    async fn ping(&self) -> Result<(), LogError> {
        Ok(self.link.ping().await?)
    }
}

#[async_trait]
impl ReplayLog for RedisReader {
    async fn marks(&self) -> Result<LogMarks, LogError> {
        let streams = self.streams().await?;
        Ok(replay::marks(&self.link, &self.prefix, &streams).await?)
    }

    async fn begin_replay(&self, marks: &Marks, survived: Option<u64>) -> Result<bool, LogError> {
        let streams = self.streams().await?;
        Ok(replay::begin(&self.link, &streams, marks, survived).await?)
    }

    async fn lease_replay(&self, ttl: Duration) -> Result<bool, LogError> {
        // Less than a millisecond would give it back.
        let ttl = ttl.max(Duration::from_millis(1));
        Ok(replay::lease(&self.link, &self.prefix, &self.owner, ttl).await?)
    }

    async fn release_replay(&self) -> Result<(), LogError> {
        replay::lease(&self.link, &self.prefix, &self.owner, Duration::ZERO).await?;
        Ok(())
    }

    async fn read_again(&self, after: Position, until: Position, entries: usize) -> Result<Vec<Delivered>, LogError> {
        Ok(replay::read(&self.link, &self.prefix, after, until, entries).await?)
    }

    async fn save_replay(&self, part: &StreamReplay) -> Result<(), LogError> {
        Ok(replay::save(&self.link, &self.prefix, part).await?)
    }

    async fn end_replay(&self, pending: &PendingReplay) -> Result<(), LogError> {
        Ok(replay::end(&self.link, &self.prefix, pending).await?)
    }

    async fn forget_marks(&self, workers: &[String], age: Duration) -> Result<(), LogError> {
        let streams = self.streams().await?;
        Ok(replay::forget(&self.link, &streams, workers, age).await?)
    }
}
