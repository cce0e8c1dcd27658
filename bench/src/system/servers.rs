//! The Redis and the PostgreSQL that everything is measured with: one of each for the whole benchmark, as
//! durable as Sluice promises to be, and with the settings that an administrator would choose.

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use sluice_service::no_delay;
use sluice_tests::postgres::PostgresServer;
use sluice_tests::redis::RedisServer;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// The settings of Redis. `appendonly`, `appendfsync` and `maxmemory-policy` are those of the tests' server;
/// they are repeated here so that the report shows them.
pub const REDIS_SETTINGS: [(&str, &str); 7] = [
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("save", ""),
    ("maxmemory", "2gb"),
    ("maxmemory-policy", "noeviction"),
    // As Sluice's operator sets them.
    ("auto-aof-rewrite-min-size", "512mb"),
    ("rdbcompression", "no"),
];

/// The settings of PostgreSQL: full durability, and a write-ahead log so large that its size forces no
/// checkpoint.
pub const POSTGRES_SETTINGS: [(&str, &str); 9] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("wal_level", "replica"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "16GB"),
    // Files of the log are used again, as on a server that has run for a while. A new one is filled with zeros first, which
    // holds commits up for tens of milliseconds.
    ("min_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
];

/// Both servers. Dropping them stops them and removes their data.
#[derive(Debug)]
pub struct Servers {
    /// The server of the stream.
    pub redis: RedisServer,
    /// The server of the store.
    pub postgres: PostgresServer,
}

impl Servers {
    /// Starts both in temporary folders on free ports.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Does the same, with other settings of PostgreSQL: the last value of a setting counts.
    pub async fn start_with(changes: &[(&str, &str)]) -> anyhow::Result<Self> {
        let postgres = [&POSTGRES_SETTINGS[..], changes].concat();
        let postgres: String = postgres.iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect();
        let start = move || {
            let redis: Vec<String> = REDIS_SETTINGS.iter().flat_map(|(k, v)| [format!("--{k}"), (*v).into()]).collect();
            let redis: Vec<&str> = redis.iter().map(String::as_str).collect();
            Self { redis: RedisServer::start_with(&redis), postgres: PostgresServer::start_with(&postgres) }
        };
        tokio::task::spawn_blocking(start).await.context("the servers did not start")
    }

    /// Opens a connection to PostgreSQL.
    pub async fn postgres(&self) -> anyhow::Result<PgConnection> {
        connect(&self.postgres.url()).await
    }

    /// Opens a connection to Redis.
    pub async fn redis(&self) -> anyhow::Result<MultiplexedConnection> {
        let client = redis::Client::open(self.redis.url())?;
        client.get_multiplexed_async_connection().await.context("cannot connect to Redis")
    }

    /// Makes PostgreSQL write all changed pages, so that it has not to do so during the next scenario.
    pub async fn checkpoint(&self) -> anyhow::Result<()> {
        self.postgres().await?.execute("CHECKPOINT").await?;
        Ok(())
    }

    /// Removes a schema with all its tables.
    pub async fn drop_schema(&self, schema: &str) -> anyhow::Result<()> {
        let statement = format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE");
        self.postgres().await?.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    /// Creates an empty schema.
    pub async fn create_schema(&self, schema: &str) -> anyhow::Result<()> {
        let statement = format!("CREATE SCHEMA \"{schema}\"");
        self.postgres().await?.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    /// Removes all keys of Redis.
    pub async fn empty_redis(&self) -> anyhow::Result<()> {
        let () = redis::cmd("FLUSHALL").query_async(&mut self.redis().await?).await?;
        Ok(())
    }

    /// Returns the versions of Redis and PostgreSQL.
    pub async fn versions(&self) -> anyhow::Result<(String, String)> {
        let info: redis::InfoDict = redis::cmd("INFO").arg("server").query_async(&mut self.redis().await?).await?;
        let redis = info.get::<String>("redis_version").context("INFO of Redis has no redis_version")?;
        let postgres: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut self.postgres().await?).await?;
        Ok((redis, postgres))
    }
}

/// Opens a connection to the PostgreSQL at a URL.
pub async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let connection = PgConnection::connect(url).await.context("cannot connect to PostgreSQL")?;
    // Without it, Nagle's algorithm and delayed acknowledgements would delay each batch of COPY by up to 40 ms.
    no_delay::on_all_sockets();
    Ok(connection)
}
