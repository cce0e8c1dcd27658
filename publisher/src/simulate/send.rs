//! Sends requests, several at a time, each repeated under its key until it is answered.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use sluice_client::{Attempt, Requests};
use sluice_service::client_tls::ClientTls;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

/// The time limit of one attempt: longer than a publisher repeats an append.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(30);

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
    /// Number of events in requests that were answered 202, and whose responses counted them all.
    pub(crate) sent: u64,
    /// Number of attempts beyond the first of each request.
    pub(crate) retries: u64,
    /// The time from the first attempt of a request to its response, in µs.
    pub(crate) latency: Histogram<u64>,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { sent: 0, retries: 0, latency: Histogram::new_with_max(LONGEST_MICROS, 3)? })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.sent += other.sent;
        self.retries += other.retries;
        self.latency.add(&other.latency).context("adding up latencies")
    }
}

/// Sends to one server until a deadline.
pub(crate) struct Sender {
    pub(crate) requests: Requests,
    pub(crate) tls: ClientTls,
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

    /// Sends one request until it is answered.
    async fn send(&self, due: &Due, tally: &mut Tally) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut request = self.requests.request(due.body.clone(), due.events as usize);
        let mut last = "there was no answer".to_owned();
        loop {
            let Ok(attempt) = timeout_at(self.deadline, request.attempt()).await else {
                bail!("not answered within the time for sending; the last attempt: {last}");
            };
            tally.retries += u64::from(request.number() > 1);
            self.progress.set_message("");
            let failure = match attempt {
                Attempt::Accepted => break,
                Attempt::Refused(reason) => bail!("{} {}: {}", reason.status, reason.code, reason.detail),
                Attempt::Failed(failure) => failure,
            };
            if let Some(error) = failure.error {
                if error.is_builder() {
                    bail!("{error}");
                }
                // A certificate does not become another one soon, and a setting never does.
                if let Some(reason) = self.tls.explain(&error) {
                    bail!("{reason}");
                }
            }
            last = failure.reason;
            self.progress.set_message(format!("repeating: {last}"));
        }
        tally.sent += due.events;
        tally.latency.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        Ok(())
    }
}
