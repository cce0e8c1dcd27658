//! The logs that the suite runs against.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sluice_log::redis::{ReaderSettings, RedisReader, RedisTls, RedisWriter, SentinelLogin, WriterSettings};
use sluice_log::sqlite::{SqliteLog, SqliteSettings};
use sluice_log::{LogReader, LogWriter};
use sluice_tests::cluster::RedisCluster;
use tempfile::TempDir;

use crate::support::RedisServer;

pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(3600);

/// A log to test.
pub trait Backend: Sized {
    /// Starts an empty log.
    async fn start(idempotency_ttl: Duration) -> Self;
    /// Ends the consumer's process and starts it again.
    async fn restart(self) -> Self;
    fn writer(&self) -> &dyn LogWriter;
    fn reader(&self) -> &dyn LogReader;
}

pub struct OnRedis {
    server: RedisServer,
    writer: RedisWriter,
    reader: RedisReader,
}

/// Returns the settings of a writer and a reader on this server.
pub fn settings(server: &RedisServer, consumer: &str) -> (WriterSettings, ReaderSettings) {
    settings_at(&server.url(), consumer)
}

/// Returns the settings of a writer and a reader at this URL.
pub fn settings_at(url: &str, consumer: &str) -> (WriterSettings, ReaderSettings) {
    let (url, prefix) = (url.to_owned(), "test".to_owned());
    let writer = WriterSettings {
        url: url.clone(),
        tls: RedisTls::default(),
        sentinel: SentinelLogin::default(),
        prefix: prefix.clone(),
        streams: 1,
        idempotency_ttl: IDEMPOTENCY_TTL,
        idempotency_memory: 0.2,
        replicas: 0,
        replicas_timeout: Duration::from_secs(5),
    };
    let reader = ReaderSettings {
        url,
        tls: RedisTls::default(),
        sentinel: SentinelLogin::default(),
        prefix,
        streams: 1,
        consumer: consumer.into(),
        replay_window: Duration::ZERO,
        replay_window_bytes: 64 << 20,
    };
    (writer, reader)
}

impl Backend for OnRedis {
    async fn start(idempotency_ttl: Duration) -> Self {
        let server = RedisServer::start().await;
        let (writer, reader) = settings(&server, "a");
        let writer = RedisWriter::new(WriterSettings { idempotency_ttl, ..writer }).unwrap();
        Self { writer, reader: RedisReader::new(reader).unwrap(), server }
    }

    async fn restart(self) -> Self {
        let reader = RedisReader::new(settings(&self.server, "a").1).unwrap();
        Self { reader, ..self }
    }

    fn writer(&self) -> &dyn LogWriter {
        &self.writer
    }

    fn reader(&self) -> &dyn LogReader {
        &self.reader
    }
}

/// On a cluster of three nodes that all tests share, each with a prefix of its own and a stream on each node.
pub struct OnCluster {
    prefix: String,
    writer: RedisWriter,
    reader: RedisReader,
}

static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(|| RedisCluster::start(3, false, &[]));
static NEXT: AtomicU32 = AtomicU32::new(0);

impl OnCluster {
    fn settings(prefix: &str) -> (WriterSettings, ReaderSettings) {
        let (writer, reader) = settings_at(&CLUSTER.url(), "a");
        let prefix = prefix.to_owned();
        (
            WriterSettings { prefix: prefix.clone(), streams: 3, ..writer },
            ReaderSettings { prefix, streams: 3, ..reader },
        )
    }
}

impl Backend for OnCluster {
    async fn start(idempotency_ttl: Duration) -> Self {
        let prefix = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (writer, reader) = Self::settings(&prefix);
        let writer = RedisWriter::new(WriterSettings { idempotency_ttl, ..writer }).unwrap();
        Self { prefix, writer, reader: RedisReader::new(reader).unwrap() }
    }

    async fn restart(self) -> Self {
        let reader = RedisReader::new(Self::settings(&self.prefix).1).unwrap();
        Self { reader, ..self }
    }

    fn writer(&self) -> &dyn LogWriter {
        &self.writer
    }

    fn reader(&self) -> &dyn LogReader {
        &self.reader
    }
}

pub struct OnSqlite {
    folder: TempDir,
    log: SqliteLog,
}

impl OnSqlite {
    async fn open(folder: &TempDir, idempotency_ttl: Duration) -> SqliteLog {
        let settings = SqliteSettings { folder: folder.path().join("data"), idempotency_ttl, max_bytes: None };
        SqliteLog::open(settings).await.unwrap()
    }
}

impl Backend for OnSqlite {
    async fn start(idempotency_ttl: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { log: Self::open(&folder, idempotency_ttl).await, folder }
    }

    async fn restart(self) -> Self {
        self.log.close().await;
        Self { log: Self::open(&self.folder, IDEMPOTENCY_TTL).await, folder: self.folder }
    }

    fn writer(&self) -> &dyn LogWriter {
        &self.log
    }

    fn reader(&self) -> &dyn LogReader {
        &self.log
    }
}
