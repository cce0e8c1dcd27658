//! Reads the Redis stream directly: the entries in flight at a moment.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult};

/// The consumer group of the aggregators.
const GROUP: &str = "aggregators";

/// An entry that is pending for a consumer.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its id in the stream.
    pub id: String,
    /// The time since the consumer received it, or last extended its claim.
    pub idle: Duration,
}

/// A connection that reads stream 0 of a prefix.
#[derive(Debug, Clone)]
pub struct StreamReader {
    connection: MultiplexedConnection,
    key: String,
}

impl StreamReader {
    /// Connects, and waits for a server that is starting.
    pub async fn connect(url: &str, prefix: &str) -> Self {
        let connection = crate::wait_until("a connection to Redis", Duration::from_secs(60), || async {
            crate::redis::connect(url).await.map_err(|e| e.to_string())
        })
        .await;
        Self { connection, key: format!("{prefix}:{{0}}") }
    }

    /// Returns the number of entries delivered and not acknowledged.
    pub async fn pending(&mut self) -> RedisResult<u64> {
        let reply: redis::streams::StreamPendingReply = self.connection.xpending(&self.key, GROUP).await?;
        Ok(reply.count() as u64)
    }

    /// Returns the number of entries delivered to one consumer and not acknowledged.
    pub async fn pending_of(&mut self, consumer: &str) -> RedisResult<u64> {
        let reply: redis::streams::StreamPendingReply = self.connection.xpending(&self.key, GROUP).await?;
        Ok(match reply {
            redis::streams::StreamPendingReply::Data(data) => {
                data.consumers.iter().filter(|c| c.name == consumer).map(|c| c.pending as u64).sum()
            }
            _ => 0,
        })
    }

    /// Returns the entries that were delivered to one consumer and not acknowledged, up to 10,000.
    pub async fn held_by(&mut self, consumer: &str) -> RedisResult<Vec<Held>> {
        let reply: redis::streams::StreamPendingCountReply =
            self.connection.xpending_consumer_count(&self.key, GROUP, "-", "+", 10_000, consumer).await?;
        let held = reply.ids.into_iter().map(|entry| {
            let idle = Duration::from_millis(entry.last_delivered_ms as u64);
            Held { id: entry.id, idle }
        });
        Ok(held.collect())
    }

    /// Reads up to so many new entries under the name of a consumer, and leaves them pending.
    pub async fn read_as(&mut self, consumer: &str, entries: usize) -> RedisResult<()> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(consumer).arg("COUNT").arg(entries).arg("STREAMS").arg(&self.key).arg(">");
        read.query_async(&mut self.connection).await
    }

    /// Returns the names of the consumers in the group.
    pub async fn consumers(&mut self) -> RedisResult<Vec<String>> {
        let reply: redis::streams::StreamInfoConsumersReply = self.connection.xinfo_consumers(&self.key, GROUP).await?;
        Ok(reply.consumers.into_iter().map(|c| c.name).collect())
    }

    /// Returns the number of entries not delivered yet; `None` when it is unknown.
    pub async fn lag(&mut self) -> RedisResult<Option<u64>> {
        let reply: redis::streams::StreamInfoGroupsReply = self.connection.xinfo_groups(&self.key).await?;
        Ok(reply.groups.iter().find(|g| g.name == GROUP).and_then(|g| g.lag).map(|lag| lag as u64))
    }

    /// Returns the number of entries in the stream, acknowledged or not.
    pub async fn length(&mut self) -> RedisResult<u64> {
        self.connection.xlen(&self.key).await
    }
}
