//! The Redis stream read directly: what is in flight at a moment.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult};

/// The consumer group of the aggregators.
const GROUP: &str = "aggregators";

/// An entry in a consumer's hands.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its place in the stream.
    pub id: String,
    /// How long ago the consumer got it, or last said that it is still at work on it.
    pub idle: Duration,
}

/// A connection that looks at stream 0 of a prefix.
#[derive(Debug, Clone)]
pub struct StreamReader {
    connection: MultiplexedConnection,
    key: String,
}

impl StreamReader {
    /// Connects, waiting for a server that is just starting.
    pub async fn connect(url: &str, prefix: &str) -> Self {
        let client = redis::Client::open(url).expect("a Redis URL");
        let connection = crate::wait_until("a connection to Redis", Duration::from_secs(60), || async {
            client.get_multiplexed_async_connection().await.map_err(|e| e.to_string())
        })
        .await;
        Self { connection, key: format!("{prefix}:{{0}}") }
    }

    /// Entries delivered and not acknowledged.
    pub async fn pending(&mut self) -> RedisResult<u64> {
        let reply: redis::streams::StreamPendingReply = self.connection.xpending(&self.key, GROUP).await?;
        Ok(reply.count() as u64)
    }

    /// Entries delivered to one consumer and not acknowledged.
    pub async fn pending_of(&mut self, consumer: &str) -> RedisResult<u64> {
        let reply: redis::streams::StreamPendingReply = self.connection.xpending(&self.key, GROUP).await?;
        Ok(match reply {
            redis::streams::StreamPendingReply::Data(data) => {
                data.consumers.iter().filter(|c| c.name == consumer).map(|c| c.pending as u64).sum()
            }
            _ => 0,
        })
    }

    /// The entries that were delivered to one consumer and not acknowledged, up to 10,000.
    pub async fn held_by(&mut self, consumer: &str) -> RedisResult<Vec<Held>> {
        let reply: redis::streams::StreamPendingCountReply =
            self.connection.xpending_consumer_count(&self.key, GROUP, "-", "+", 10_000, consumer).await?;
        let held = reply.ids.into_iter().map(|entry| {
            let idle = Duration::from_millis(entry.last_delivered_ms as u64);
            Held { id: entry.id, idle }
        });
        Ok(held.collect())
    }

    /// The names of the group's consumers.
    pub async fn consumers(&mut self) -> RedisResult<Vec<String>> {
        let reply: redis::streams::StreamInfoConsumersReply = self.connection.xinfo_consumers(&self.key, GROUP).await?;
        Ok(reply.consumers.into_iter().map(|c| c.name).collect())
    }

    /// Entries not delivered yet; `None` is unknown.
    pub async fn lag(&mut self) -> RedisResult<Option<u64>> {
        let reply: redis::streams::StreamInfoGroupsReply = self.connection.xinfo_groups(&self.key).await?;
        Ok(reply.groups.iter().find(|g| g.name == GROUP).and_then(|g| g.lag).map(|lag| lag as u64))
    }

    /// Entries in the stream, acknowledged or not.
    pub async fn length(&mut self) -> RedisResult<u64> {
        self.connection.xlen(&self.key).await
    }
}
