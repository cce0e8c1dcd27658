//! Sends the requests, and repeats each until it is answered.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use sluice_service::backoff::Backoff;

use super::lines::Batch;
use crate::programs::{Answer, JSON, Programs, Refused};

/// The first and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The longest pause that a server can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Sends requests one after the other.
pub(super) struct Sender {
    programs: Programs,
    key: String,
    retry_for: Duration,
    /// Events that were accepted.
    pub accepted: u64,
    /// Requests that were accepted.
    pub requests: u64,
    /// Attempts after the first one of each request.
    pub repeats: u64,
}

#[derive(Deserialize)]
struct Accepted {
    count: u64,
}

impl Sender {
    pub(super) fn new(programs: Programs, key: String, retry_for: Duration) -> Self {
        Self { programs, key, retry_for, accepted: 0, requests: 0, repeats: 0 }
    }

    /// Sends a request until it is accepted.
    pub(super) async fn send(&mut self, batch: &Batch) -> anyhow::Result<()> {
        // The key depends on the number alone: the same command with the same key sends the same requests.
        let key = format!("{}-{}", self.key, self.requests + 1);
        let body = Bytes::from(batch.body.clone());
        let until = Instant::now() + self.retry_for;
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let headers = [JSON, ("idempotency-key", key.as_str())];
            let answer = self.programs.send(Method::POST, "/publish", &headers, body.clone()).await;
            let (pause, error) = match answer.map(Answer::accepted) {
                Ok(Ok(body)) => {
                    let answer: Accepted =
                        serde_json::from_slice(&body).context("the answer is not that of a publisher")?;
                    self.accepted += answer.count;
                    self.requests += 1;
                    return Ok(());
                }
                Ok(Err(refused)) if is_final(&refused) => return Err(named(refused, batch)),
                Ok(Err(refused)) => (refused.retry_after.map(|wait| wait.min(MAX_RETRY_AFTER)), refused.into()),
                Err(error) => (None, error),
            };
            let pause = pause.unwrap_or_else(|| backoff.next());
            if Instant::now() + pause >= until {
                return Err(error);
            }
            self.repeats += 1;
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether repeating a request does not help.
fn is_final(refused: &Refused) -> bool {
    let for_now = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    !refused.status.is_server_error() && !for_now.contains(&refused.status)
}

/// Returns a refusal with the line that it is about.
fn named(refused: Refused, batch: &Batch) -> anyhow::Error {
    match refused.index.and_then(|index| batch.lines.get(index)) {
        Some(line) => {
            let about = format!("the event of line {line} is refused, and with it its request");
            anyhow::Error::new(refused).context(about)
        }
        None => refused.into(),
    }
}
