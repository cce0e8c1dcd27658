//! The publisher's side.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::try_join_all;
use sluice_service::durability::Durability;
use sluice_service::encryption::Encryption;

use super::connect::Link;
use super::keys::{Prefix, StreamKeys};
use super::losses::LastConfirmed;
use super::replicas::Replicas;
use super::settings::WriterSettings;
use super::{append, key_records, notice, pressure, streams};
use crate::notice::{NoticeRead, Tallies};
use crate::{Append, Appended, KeyedRequest, LogError, LogWriter, Pressure};

/// The number of streams is recorded again after this time, because Redis may have lost it, and its settings are
/// looked at again.
const RECORD_INTERVAL: Duration = Duration::from_secs(10);

/// Appends to Redis streams. Connects at the first use, so that a publisher can start while Redis is
/// unavailable.
pub struct RedisWriter {
    settings: WriterSettings,
    link: Link,
    prefix: Prefix,
    replicas: Option<Replicas>,
    streams: Vec<StreamKeys>,
    confirmed: Vec<LastConfirmed>,
    recorded: Mutex<Option<Recorded>>,
}

#[derive(Clone, Copy)]
struct Recorded {
    at: Instant,
    generation: u64,
    highest: u16,
    /// The maximum number of key records ([`key_records`]).
    max_key_records: u64,
}

impl RedisWriter {
    /// Creates a writer.
    ///
    /// # Errors
    /// When the URL is invalid or the number of streams is 0.
    pub fn new(settings: WriterSettings) -> Result<Self, LogError> {
        if settings.streams == 0 {
            return Err(LogError::Failed("there must be at least one stream".into()));
        }
        let link = Link::new(&settings.url, &settings.tls, &settings.sentinel)?;
        let prefix = link.prefix(&settings.prefix);
        let streams = (0..settings.streams).map(|number| StreamKeys::new(&prefix, number)).collect();
        let confirmed = (0..settings.streams).map(|_| LastConfirmed::default()).collect();
        let replicas = (settings.replicas > 0).then(|| Replicas::new(settings.replicas, settings.replicas_timeout));
        Ok(Self { settings, link, prefix, replicas, streams, confirmed, recorded: Mutex::default() })
    }

    /// Returns what the server promises, as it was last found.
    pub fn durability(&self) -> Durability {
        self.link.durability().clone()
    }

    /// Returns whether connections are encrypted.
    pub fn encryption(&self) -> Encryption {
        self.link.encryption().clone()
    }

    /// Records the number of streams, so that readers read all of them, and reads the server's limit on memory;
    /// returns what was recorded, with the highest number of streams ever.
    async fn record_streams(&self) -> Result<Recorded, LogError> {
        let generation = self.link.generation().await?;
        let recorded = *self.recorded();
        if let Some(recorded) = recorded
            && recorded.generation == generation
            && recorded.at.elapsed() < RECORD_INTERVAL
        {
            return Ok(recorded);
        }
        let at = Instant::now();
        let outcome = match (self.record_again(at, generation).await, recorded) {
            // A node of a cluster that is away must not hold up the streams on the others.
            (Err(error), Some(recorded)) if self.link.is_cluster() => {
                tracing::warn!(%error, "cannot record the number of streams; trying again later");
                Recorded { at, generation, ..recorded }
            }
            (outcome, _) => outcome?,
        };
        *self.recorded() = Some(outcome);
        Ok(outcome)
    }

    async fn record_again(&self, at: Instant, generation: u64) -> Result<Recorded, LogError> {
        self.link.check_server().await?;
        let streams = self.confirmed.iter().zip(&self.streams);
        try_join_all(streams.map(|(last, keys)| last.check(&self.link, keys, self.link.durability()))).await?;
        let highest = streams::record(&self.link, &self.prefix, self.settings.streams).await?;
        let (max_memory, streams) = pressure::max_memory(&self.link, &self.streams).await?;
        let max_key_records = key_records::max_records(self.settings.idempotency_memory, max_memory, streams);
        Ok(Recorded { at, generation, highest, max_key_records })
    }

    fn recorded(&self) -> MutexGuard<'_, Option<Recorded>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LogWriter for RedisWriter {
    fn streams(&self) -> u16 {
        self.settings.streams
    }

    async fn append(&self, append: &Append) -> Result<Appended, LogError> {
        let keys = self.streams.get(usize::from(append.stream)).ok_or_else(|| {
            LogError::Failed(format!("there is no stream {}, there are {}", append.stream, self.settings.streams))
        })?;
        let max_records = self.record_streams().await?.max_key_records;
        let bounds = append::KeyBounds { ttl: self.settings.idempotency_ttl, max_records };
        let (appended, position) = append::append(&self.link, keys, append, bounds, self.replicas.as_ref()).await?;
        if let (Some(position), Some(last)) = (position, self.confirmed.get(usize::from(append.stream))) {
            last.note(position);
        }
        Ok(appended)
    }

    async fn pressure(&self) -> Result<Pressure, LogError> {
        let highest = self.record_streams().await?.highest;
        let beyond = (self.settings.streams..highest).map(|number| StreamKeys::new(&self.prefix, number));
        let streams: Vec<_> = self.streams.iter().cloned().chain(beyond).collect();
        pressure::pressure(&self.link, &streams).await
    }
    fn has_notices(&self) -> bool {
        true
    }

    async fn notice(&self, known: Option<&str>) -> Result<NoticeRead, LogError> {
        Ok(notice::read(&self.link, &self.prefix, known).await?)
    }

    async fn add_to_tallies(&self, tallies: &Tallies) -> Result<(), LogError> {
        Ok(notice::add(&self.link, &self.prefix, tallies).await?)
    }

    async fn is_recorded(&self, stream: u16, request: KeyedRequest) -> Result<bool, LogError> {
        Ok(notice::is_recorded(&self.link, &StreamKeys::new(&self.prefix, stream), request).await?)
    }
}
