//! Requests whose bodies are ready, each repeated under its key until it is answered.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Url;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::error::{BuildError, Failure};
use crate::http::Http;
use crate::outcome::Rejection;
use crate::verdict::Verdict;

/// Sends requests whose bodies are ready, for a program that decides itself what is in a request, and when it gives up.
/// [`Client`](crate::Client) does both for all others.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sluice_client::{Attempt, Requests};
///
/// let requests = Requests::new(reqwest::Client::new(), "http://127.0.0.1:8080")?;
/// let mut request = requests.request(r#"{"event_id":"evt-1","payload":1}"#.into(), 1);
/// loop {
///     match request.attempt().await {
///         Attempt::Accepted => break,
///         Attempt::Refused(reason) => return Err(reason.detail.into()),
///         Attempt::Failed(failure) => eprintln!("it is repeated: {}", failure.reason),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Requests {
    http: Http,
    backoff: Backoff,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Attempt {
    /// The server has all events on disk, and stores each once.
    Accepted,
    /// The server refused the request, and repeating it would not help.
    Refused(Rejection),
    /// It is not known what became of it, or the server asks for it to be repeated.
    Failed(Failure),
}

impl Requests {
    /// Returns what sends to the server at `url`, with a client that has all settings of the connection, its timeout, and a token
    /// if the server needs one.
    ///
    /// # Errors
    /// When this is not the URL of a server.
    pub fn new(client: reqwest::Client, url: &str) -> Result<Self, BuildError> {
        let wrong = |reason: String| BuildError::Setting { setting: "url", reason };
        let url = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        Ok(Self { http: Http::with(client, &url).map_err(wrong)?, backoff })
    }

    /// Returns a request, which has a key of its own. `body` is JSON, with so many events.
    pub fn request(&self, body: Bytes, events: usize) -> Attempts<'_> {
        Attempts::new(&self.http, Uuid::new_v4().to_string(), body, events, self.backoff.clone())
    }
}

/// A request and its attempts, which all have the same key and body: however many reach the server, its events count once.
#[derive(Debug)]
pub struct Attempts<'r> {
    http: &'r Http,
    key: String,
    body: Bytes,
    events: usize,
    backoff: Backoff,
    /// How long to wait before the next one.
    pause: Option<Duration>,
    number: u64,
}

impl<'r> Attempts<'r> {
    pub(crate) fn new(http: &'r Http, key: String, body: Bytes, events: usize, backoff: Backoff) -> Self {
        Self { http, key, body, events, backoff, pause: None, number: 0 }
    }

    /// Sends the request once; after a failure not before a random time, which grows, and what the server asked for.
    pub async fn attempt(&mut self) -> Attempt {
        match self.verdict().await {
            Verdict::Accepted { .. } => Attempt::Accepted,
            Verdict::Refused { reason, .. } => Attempt::Refused(reason),
            Verdict::Again { failure, .. } => Attempt::Failed(failure),
        }
    }

    /// Returns the number of attempts so far.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Does the same as [`Attempts::attempt`], and returns what the answer says about each event.
    pub(crate) async fn verdict(&mut self) -> Verdict {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        self.number += 1;
        let verdict = Verdict::of(self.http.publish(&self.key, self.body.clone()).await, self.events);
        if let Verdict::Again { failure, now: false } = &verdict {
            self.pause = Some(self.backoff.next(failure.retry_after));
        }
        verdict
    }
}
