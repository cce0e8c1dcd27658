//! The test fixture: a publisher with its own Redis server, and functions that read the streams.

use std::time::Duration;

use redis::streams::StreamRangeReply;
use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_event::entry;
use sluice_event::{EntryId, ReceiptId, RequestId, compressed};
use sluice_tests::program::Program;
use sluice_tests::redis::RedisServer;
use sluice_tests::wait::holds;
use sluice_tests::{Answer, Client, dirs, metrics, wait_until};
use tokio::task::JoinHandle;

/// How long a condition may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Fixture {
    pub redis: RedisServer,
    pub publisher: Program,
    pub client: Client,
}

/// An entry of a stream, decoded as an aggregator decodes it.
#[derive(Debug)]
pub struct Entry {
    pub id: EntryId,
    /// For each request: its id, its receipt and its event ids.
    pub requests: Vec<(RequestId, Option<ReceiptId>, Vec<String>)>,
}

impl Fixture {
    /// Starts Redis and a publisher; `options` are further arguments of the publisher.
    pub async fn start(options: &[&str]) -> Self {
        Self::start_on(RedisServer::start(), options).await
    }

    /// Starts a publisher on this Redis server.
    pub async fn start_on(redis: RedisServer, options: &[&str]) -> Self {
        let url = redis.url();
        Self::start_through(redis, &url, options).await
    }

    /// Starts a publisher that connects to Redis at `url`, which may be the address of a proxy.
    pub async fn start_through(redis: RedisServer, url: &str, options: &[&str]) -> Self {
        // More than the default, so that the tests can distinguish entries in flight from those that are packed later.
        let args = [&["serve", "--redis-url", url, "--stream-prefix", "t", "--max-appends", "4"], options].concat();
        let args = args.into_iter().map(str::to_owned).collect();
        let mut publisher = Program::new("publisher", "sluice-publisher", args, &[], &dirs::fresh("publisher"));
        publisher.start().await;
        let client = Client::new(&publisher.base());
        Self { redis, publisher, client }
    }

    /// Publishes in a background task that returns the response.
    pub fn publish(&self, key: Option<&str>, body: Value) -> JoinHandle<Answer> {
        let (client, key) = (self.client.clone(), key.map(str::to_owned));
        tokio::spawn(async move {
            match key {
                Some(key) => client.publish_keyed(&key, &body).await,
                None => client.publish_raw(body.to_string()).await,
            }
        })
    }

    /// Waits until exactly this number of requests wait for Redis.
    pub async fn waiting(&self, requests: u32) {
        wait_until(&format!("{requests} requests wait"), PATIENCE, || async {
            let seen = self.metric("sluice_publish_waiting_requests").await;
            holds(seen == f64::from(requests), || format!("{seen} wait"))
        })
        .await;
    }

    /// Returns the sum of a metric's series at the publisher.
    pub async fn metric(&self, name: &str) -> f64 {
        metrics::sum(&self.client.get("/metrics").await.text, name)
    }

    /// Stops the Redis process with SIGSTOP: its connections stay open, and it does not reply until
    /// [`Fixture::thaw_redis`]. Before that the publisher has read from it what requests wait for at first.
    pub async fn freeze_redis(&self) {
        wait_until("the publisher knows the schemas of topics", PATIENCE, || async {
            let text = self.client.get("/metrics").await.text;
            holds(text.contains("\nsluice_publish_schemas "), || text.clone())
        })
        .await;
        self.redis.process().signal(Signal::STOP);
    }

    pub fn thaw_redis(&self) {
        self.redis.process().signal(Signal::CONT);
    }

    /// Returns all entries of a stream.
    pub async fn entries(&self, stream: u16) -> Vec<Entry> {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let all: StreamRangeReply = redis::cmd("XRANGE")
            .arg(format!("t:{{{stream}}}"))
            .arg("-")
            .arg("+")
            .query_async(&mut connection)
            .await
            .unwrap();
        all.ids
            .iter()
            .map(|entry| {
                let body: Vec<u8> = entry.get("e").unwrap();
                let events: u64 = entry.get("n").unwrap();
                let body = compressed::expand(&body).unwrap();
                let entry = entry::decode(&body).unwrap();
                assert_eq!(events, entry.requests.iter().map(|request| request.events.len() as u64).sum::<u64>());
                let requests = entry.requests.iter().map(|request| {
                    let ids = request.events.iter().map(|event| event.event_id.to_string()).collect();
                    (request.id, request.receipt, ids)
                });
                Entry { id: entry.id, requests: requests.collect() }
            })
            .collect()
    }

    /// Returns the event ids in stream 0, in order.
    pub async fn event_ids(&self) -> Vec<String> {
        let entries = self.entries(0).await;
        entries.into_iter().flat_map(|entry| entry.requests).flat_map(|(_, _, ids)| ids).collect()
    }
}

/// Returns an event with this id.
pub fn event(id: impl ToString) -> Value {
    json!({"event_id": id.to_string(), "payload": {"value": 100, "text": "x".repeat(200)}})
}
