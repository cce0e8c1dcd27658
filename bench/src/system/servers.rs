//! The Redis and the PostgreSQL that everything is measured on: one of each for the whole run, as
//! durable as the product promises, and tuned as an operator would.

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use sluice_service::no_delay;
use sluice_tests::postgres::PostgresServer;
use sluice_tests::redis::RedisServer;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Beside the tests' `appendonly yes`, `appendfsync always`, `noeviction`; repeated so that the
/// report can show all that matters.
pub const REDIS_SETTINGS: [(&str, &str); 7] = [
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("save", ""),
    ("maxmemory", "2gb"),
    ("maxmemory-policy", "noeviction"),
    // As the operator writes it.
    ("auto-aof-rewrite-min-size", "512mb"),
    ("rdbcompression", "no"),
];

/// Full durability, and a write-ahead log large enough that no checkpoint is forced by its size.
pub const POSTGRES_SETTINGS: [(&str, &str); 8] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("wal_level", "replica"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
];

/// Both servers. Dropping them stops them and removes their data.
#[derive(Debug)]
pub struct Servers {
    /// The stream's.
    pub redis: RedisServer,
    /// The store's.
    pub postgres: PostgresServer,
}

impl Servers {
    /// Starts both in temporary folders on free ports.
    pub async fn start() -> anyhow::Result<Self> {
        let start = || {
            let redis: Vec<String> = REDIS_SETTINGS.iter().flat_map(|(k, v)| [format!("--{k}"), (*v).into()]).collect();
            let redis: Vec<&str> = redis.iter().map(String::as_str).collect();
            let postgres: String = POSTGRES_SETTINGS.iter().map(|(k, v)| format!("{k} = '{v}'\n")).collect();
            Self { redis: RedisServer::start_with(&redis), postgres: PostgresServer::start_with(&postgres) }
        };
        tokio::task::spawn_blocking(start).await.context("the servers did not start")
    }

    /// A connection to PostgreSQL.
    pub async fn postgres(&self) -> anyhow::Result<PgConnection> {
        let connection = PgConnection::connect(&self.postgres.url()).await.context("cannot connect to PostgreSQL")?;
        // COPY alone would be held up for up to 40 ms a batch without it.
        no_delay::on_all_sockets();
        Ok(connection)
    }

    /// A connection to Redis.
    pub async fn redis(&self) -> anyhow::Result<MultiplexedConnection> {
        let client = redis::Client::open(self.redis.url())?;
        client.get_multiplexed_async_connection().await.context("cannot connect to Redis")
    }

    /// Leaves nothing of the block before to be done during the next one.
    pub async fn settle(&self) -> anyhow::Result<()> {
        self.postgres().await?.execute("CHECKPOINT").await?;
        Ok(())
    }

    /// Removes a schema with all that is in it.
    pub async fn drop_schema(&self, schema: &str) -> anyhow::Result<()> {
        let statement = format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE");
        self.postgres().await?.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    /// An empty schema.
    pub async fn create_schema(&self, schema: &str) -> anyhow::Result<()> {
        let statement = format!("CREATE SCHEMA \"{schema}\"");
        self.postgres().await?.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    /// Removes all that Redis holds.
    pub async fn empty_redis(&self) -> anyhow::Result<()> {
        let () = redis::cmd("FLUSHALL").query_async(&mut self.redis().await?).await?;
        Ok(())
    }

    /// The versions of both servers, as they say them.
    pub async fn versions(&self) -> anyhow::Result<(String, String)> {
        let info: redis::InfoDict = redis::cmd("INFO").arg("server").query_async(&mut self.redis().await?).await?;
        let redis = info.get::<String>("redis_version").context("Redis says no version")?;
        let postgres: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut self.postgres().await?).await?;
        Ok((redis, postgres))
    }
}
