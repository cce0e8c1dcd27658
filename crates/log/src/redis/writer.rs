//! The publisher's side.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sluice_service::durability::Durability;
use sluice_service::encryption::Encryption;

use super::connect::Link;
use super::keys::StreamKeys;
use super::replicas::Replicas;
use super::settings::WriterSettings;
use super::{append, key_records, pressure, streams};
use crate::{Append, Appended, LogError, LogWriter, Pressure};

/// The number of streams is recorded again after this time, because Redis may have lost it, and its settings are
/// looked at again.
const RECORD_INTERVAL: Duration = Duration::from_secs(10);

/// Appends to Redis streams. Connects at the first use, so that a publisher can start while Redis is
/// unavailable.
pub struct RedisWriter {
    settings: WriterSettings,
    link: Link,
    replicas: Option<Replicas>,
    streams: Vec<StreamKeys>,
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
        let streams = (0..settings.streams).map(|number| StreamKeys::new(&settings.prefix, number)).collect();
        let replicas = (settings.replicas > 0).then(|| Replicas::new(settings.replicas, settings.replicas_timeout));
        Ok(Self { settings, link, replicas, streams, recorded: Mutex::default() })
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
        let recorded = *self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(recorded) = recorded
            && recorded.generation == generation
            && recorded.at.elapsed() < RECORD_INTERVAL
        {
            return Ok(recorded);
        }
        let at = Instant::now();
        self.link.check_server().await?;
        let highest = streams::record(&self.link, &self.settings.prefix, self.settings.streams).await?;
        let max_memory = pressure::max_memory(&self.link).await?;
        let max_key_records =
            key_records::max_records(self.settings.idempotency_memory, max_memory, self.settings.streams);
        let recorded = Recorded { at, generation, highest, max_key_records };
        *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorded);
        Ok(recorded)
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
        append::append(&self.link, keys, append, bounds, self.replicas.as_ref()).await
    }

    async fn pressure(&self) -> Result<Pressure, LogError> {
        let highest = self.record_streams().await?.highest;
        let beyond = (self.settings.streams..highest).map(|number| StreamKeys::new(&self.settings.prefix, number));
        let streams: Vec<_> = self.streams.iter().cloned().chain(beyond).collect();
        pressure::pressure(&self.link, &streams).await
    }
}
