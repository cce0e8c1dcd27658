//! The whole system, on either backend, at one address.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::postgres::PostgresServer;
use crate::process::tail;
use crate::program::Program;
use crate::redis::RedisServer;
use crate::store::{Snapshot, StoreAddress, StoreReader};
use crate::stream::StreamReader;
use crate::wait::{holds, wait_until};
use crate::{Client, metrics};

/// How long the system may take to catch up with what it accepted.
pub const CATCH_UP: Duration = Duration::from_secs(300);

/// The implementations of the log and of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Redis and Postgres: a publisher and aggregators.
    RedisPostgres,
    /// SQLite: one process.
    Standalone,
}

/// Servers that one system alone uses, so that the test may stop or kill them.
#[derive(Debug)]
pub struct OwnServers {
    /// Its Redis.
    pub redis: RedisServer,
    /// Its Postgres.
    pub postgres: PostgresServer,
}

/// A running system. Dropping it kills its processes, and prints their logs if the test failed.
#[derive(Debug)]
pub struct System {
    /// The backend.
    pub backend: Backend,
    /// A client of the one address that serves all requests.
    pub client: Client,
    /// The publisher; `None` in a standalone system.
    pub publisher: Option<Program>,
    /// The aggregators; in a standalone system its single process.
    pub aggregators: Vec<Program>,
    /// Servers that this system alone uses.
    pub servers: Option<OwnServers>,
    /// The location of its rows.
    pub store: StoreAddress,
    /// URL and prefix of its stream; `None` in a standalone system.
    pub stream: Option<(String, String)>,
    /// Its directory: logs, and the data of a standalone system.
    pub dir: PathBuf,
}

impl System {
    /// Returns the one address that serves all requests.
    pub fn base(&self) -> String {
        self.client.base().to_owned()
    }

    /// Returns all our programs.
    pub fn programs(&mut self) -> impl Iterator<Item = &mut Program> {
        self.publisher.iter_mut().chain(&mut self.aggregators)
    }

    /// Returns the program that serves `/publish`.
    pub fn ingest(&mut self) -> &mut Program {
        self.publisher.as_mut().unwrap_or_else(|| &mut self.aggregators[0])
    }

    /// Stops all our programs with SIGTERM, after which each must exit with 0, and starts them again.
    pub async fn restart(&mut self) {
        for program in self.programs() {
            let status = program.terminate();
            assert!(status.is_some_and(|s| s.success()), "{} ended with {status:?} on SIGTERM", program.name());
        }
        for program in self.programs() {
            program.start().await;
        }
    }

    /// Returns a connection that reads the database directly.
    pub async fn reader(&self) -> StoreReader {
        wait_until("a connection to the database", Duration::from_secs(60), || async {
            StoreReader::connect(&self.store).await.map_err(|e| e.to_string())
        })
        .await
    }

    /// Returns a connection that reads the stream directly.
    pub async fn stream(&self) -> StreamReader {
        let (url, prefix) = self.stream.as_ref().expect("a system with Redis");
        StreamReader::connect(url, prefix).await
    }

    /// Waits until so many events have arrived in the database or in its dead letters, and nothing is in flight
    /// any more. Returns the counts at that time; more events than expected are a failure.
    pub async fn wait_until_stored(&self, expected: u64) -> Snapshot {
        let end = self.wait_until_stored_at_least(expected).await;
        assert_eq!(end.arrived(), expected, "events that arrived: {end:?}");
        end
    }

    /// Like [`System::wait_until_stored`], for a test in which a request without a response may have been
    /// accepted too.
    pub async fn wait_until_stored_at_least(&self, expected: u64) -> Snapshot {
        let mut reader = self.reader().await;
        let deadline = Instant::now() + CATCH_UP;
        let mut last = String::new();
        loop {
            match self.look(&mut reader).await {
                Ok((snapshot, Some(0))) if snapshot.arrived() >= expected => return snapshot,
                Ok((snapshot, backlog)) => last = format!("{snapshot:?}, backlog {backlog:?}"),
                Err(e) => last = format!("{e}; before: {last}"),
            }
            let late = format!("{expected} events are stored, dropped or put aside: not within {CATCH_UP:?}");
            assert!(Instant::now() < deadline, "{late}; last seen: {last}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the counts, and the number of events that are accepted and not stored; `None` when it is unknown.
    pub async fn look(&self, reader: &mut StoreReader) -> Result<(Snapshot, Option<u64>), String> {
        // The backlog is read first: events that are no longer in it are in the snapshot.
        let stats = self.client.get("/stats").await;
        if stats.status != 200 {
            return Err(format!("/stats answers {} {}", stats.status, stats.text));
        }
        let snapshot = reader.snapshot().await.map_err(|e| e.to_string())?;
        Ok((snapshot, stats.json()["backlog"].as_u64()))
    }

    /// Publishes a body that must be accepted, and waits until it is stored. Only for tests that publish nothing
    /// else at the same time; `before` is the number of events that arrived earlier.
    pub async fn publish_and_wait(&self, before: u64, body: &Value) -> Snapshot {
        let count = self.client.publish(body).await;
        self.wait_until_stored(before + count).await
    }

    /// Returns the sum of a metric over the running aggregators.
    pub async fn aggregator_metric(&self, metric: &str) -> u64 {
        let mut sum = 0.0;
        for program in self.aggregators.iter().filter(|p| p.runs()) {
            let answer = Client::new(&program.base()).get("/metrics").await.assert_status(200);
            sum += metrics::sum(&answer.text, metric);
        }
        sum as u64
    }

    /// Waits until so many dead letters are listed.
    pub async fn dead_letters(&self, expected: usize) -> Vec<Value> {
        wait_until(&format!("{expected} dead letters"), CATCH_UP, || async {
            let listed = self.client.get_json("/dead-letters").await;
            let letters = listed["dead_letters"].as_array().cloned().ok_or_else(|| listed.to_string())?;
            holds(letters.len() == expected, || listed.to_string()).map(|()| letters)
        })
        .await
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let mut panicked = Vec::new();
        for program in self.programs() {
            program.kill();
            if failed {
                println!("──── {}\n{}", program.describe(), tail(program.log_file(), 60));
            } else if program.log().contains("panicked at") {
                panicked.push(format!("{}:\n{}", program.name(), tail(program.log_file(), 60)));
            }
        }
        assert!(panicked.is_empty(), "a program panicked under the test\n{}", panicked.join("\n"));
    }
}
