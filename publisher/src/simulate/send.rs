//! Sends requests, several at a time, each repeated under its key until it is answered.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode};
use sluice_service::backoff::Backoff;
use sluice_service::client_tls::ClientTls;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::error_chain::error_chain;

/// The time limit of one attempt: longer than a publisher repeats an append.
const ATTEMPT: Duration = Duration::from_secs(30);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// The longest `Retry-After` that is respected.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The longest recorded latency: an hour.
const LONGEST_MICROS: u64 = 3_600_000_000;

/// A request that is due.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) body: Bytes,
    pub(crate) events: u64,
}

/// The totals of the sent requests.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Number of events in requests that were answered 202, as sent and as reported by the responses.
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    /// Number of attempts beyond the first of each request.
    pub(crate) retries: u64,
    /// The time from the first attempt of a request to its response, in µs.
    pub(crate) latency: Histogram<u64>,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { sent: 0, accepted: 0, retries: 0, latency: Histogram::new_with_max(LONGEST_MICROS, 3)? })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.retries += other.retries;
        self.latency.add(&other.latency).context("adding up latencies")
    }
}

/// Sends to one server until a deadline.
pub(crate) struct Sender {
    pub(crate) client: Client,
    pub(crate) tls: ClientTls,
    pub(crate) url: String,
    pub(crate) deadline: Instant,
    pub(crate) progress: ProgressBar,
}

impl Sender {
    /// Sends the requests that are due, `concurrency` at a time, until the queue ends.
    pub(crate) async fn send_all(&self, due: mpsc::Receiver<Due>, concurrency: usize) -> anyhow::Result<Tally> {
        let due = Mutex::new(due);
        let workers = (0..concurrency).map(|_| self.work(&due));
        let mut total = Tally::new()?;
        for tally in futures::future::try_join_all(workers).await? {
            total.add(&tally)?;
        }
        Ok(total)
    }

    async fn work(&self, due: &Mutex<mpsc::Receiver<Due>>) -> anyhow::Result<Tally> {
        let mut tally = Tally::new()?;
        loop {
            let next = due.lock().await.recv().await;
            let Some(request) = next else { return Ok(tally) };
            self.send(&request, &mut tally).await?;
            self.progress.inc(request.events);
        }
    }

    /// Sends one request under one `Idempotency-Key` until it is answered.
    async fn send(&self, request: &Due, tally: &mut Tally) -> anyhow::Result<()> {
        let key = Uuid::new_v4().to_string();
        let began = Instant::now();
        let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);
        loop {
            let attempt = timeout_at(self.deadline, self.attempt(&request.body, &key)).await;
            let (reason, wait) = match attempt {
                Ok(Attempt::Accepted(count)) => {
                    tally.sent += request.events;
                    tally.accepted += count;
                    tally.latency.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
                    return Ok(());
                }
                Ok(Attempt::Refused(reason)) => bail!("{reason}"),
                Ok(Attempt::Again(reason, wait)) => (reason, wait),
                Err(_) => bail!("no answer within the time for sending"),
            };
            let wait = wait.unwrap_or(Duration::ZERO).min(MAX_RETRY_AFTER) + backoff.next();
            if Instant::now() + wait >= self.deadline {
                bail!("not answered within the time for sending; the last attempt: {reason}");
            }
            tally.retries += 1;
            self.progress.set_message(format!("repeating: {reason}"));
            sleep(wait).await;
            self.progress.set_message("");
        }
    }

    async fn attempt(&self, body: &Bytes, key: &str) -> Attempt {
        let request = self
            .client
            .post(format!("{}/publish", self.url))
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", key)
            .timeout(ATTEMPT)
            .body(body.clone());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => return Attempt::Refused(error.to_string()),
            // A certificate does not become another one soon, and a setting never does.
            Err(error) => match self.tls.explain(&error) {
                Some(reason) => return Attempt::Refused(reason),
                None => return Attempt::Again(error_chain(&error), None),
            },
        };
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let answer = match response.bytes().await {
            Ok(answer) => answer,
            Err(error) => return Attempt::Again(error_chain(&error), None),
        };
        let passing =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if status == StatusCode::ACCEPTED {
            let answer: Option<serde_json::Value> = serde_json::from_slice(&answer).ok();
            return match answer.and_then(|answer| answer["count"].as_u64()) {
                Some(count) => Attempt::Accepted(count),
                None => Attempt::Refused("the answer to /publish has no count".to_owned()),
            };
        }
        let text = format!("{status}: {}", String::from_utf8_lossy(&answer).trim());
        if passing { Attempt::Again(text, wait.map(Duration::from_secs)) } else { Attempt::Refused(text) }
    }
}

enum Attempt {
    /// The response 202, with the number of accepted events.
    Accepted(u64),
    /// Repeating may help, but not before the wait that the server asked for.
    Again(String, Option<Duration>),
    /// Repeating does not help.
    Refused(String),
}
