//! The settings of a client, and its start.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use reqwest::Url;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::{Client, Handle};
use crate::collector::Collector;
use crate::core::Core;
use crate::courier::Courier;
use crate::error::BuildError;
use crate::http::Http;
use crate::memory::Memory;
use crate::settings::{Settings, WhenFull};
use crate::spool::{Recovery, Spool};
use crate::spooler::Spooler;
use crate::stats::Counters;
use crate::token::Token;
use crate::waiters::Waiters;

/// The limits of a server with default settings, for a batch.
const SERVER_EVENTS: usize = 10_000;
const SERVER_BYTES: usize = 8 << 20;

/// Builds a [`Client`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    url: String,
    token: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    settings: Settings,
    spool: Option<PathBuf>,
    spool_bytes: u64,
    request_timeout: Duration,
    backoff: (Duration, Duration),
}

/// Written without the token, so that no message shows it.
impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Builder");
        shown.field("url", &self.url).field("settings", &self.settings).field("spool", &self.spool);
        shown.finish_non_exhaustive()
    }
}

impl Client {
    /// Returns a builder of a client of the server at `url`, with default settings.
    pub fn builder(url: impl Into<String>) -> Builder {
        let settings = Settings {
            batch_events: 500,
            batch_bytes: 1 << 20,
            linger: Duration::from_millis(20),
            in_flight: 4,
            memory_bytes: 64 << 20,
            when_full: WhenFull::Block,
        };
        Builder {
            url: url.into(),
            token: None,
            token_file: None,
            ca_file: None,
            settings,
            spool: None,
            spool_bytes: 1 << 30,
            request_timeout: Duration::from_secs(30),
            backoff: (Duration::from_millis(50), Duration::from_secs(10)),
        }
    }
}

impl Builder {
    /// Sends this token with each request.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sends the token in this file with each request. The file may be replaced while the client runs.
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.token_file = Some(file.into());
        self
    }

    /// Trusts the certificates in this file, in PEM, in addition to the CAs of the system.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Sets how many events a batch has at most: 500 by default, and no more than 10,000.
    pub fn batch_events(mut self, events: usize) -> Self {
        self.settings.batch_events = events;
        self
    }

    /// Sets how many bytes a batch has at most: 1 MiB by default, and from 1 KiB to 8 MiB. A larger event is not taken.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes;
        self
    }

    /// Sets how long an event waits for others to become a batch: 20 ms by default.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// Sets how many batches are on their way at the same time: 4 by default, and no more than 256.
    pub fn in_flight(mut self, batches: usize) -> Self {
        self.settings.in_flight = batches;
        self
    }

    /// Sets how many bytes events take in memory at most, 256 for each event beside its JSON: 64 MiB by default, and at least
    /// twice `batch_bytes`. With a spool an event is in memory until it is written, and each batch on its way is too.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.settings.memory_bytes = bytes;
        self
    }

    /// Sets what happens to an event for which there is no room.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.settings.when_full = when_full;
        self
    }

    /// Writes all events to this directory before they are sent. One client at a time uses it.
    pub fn spool(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spool = Some(dir.into());
        self
    }

    /// Sets how many bytes the spool has at most, dead letters included: 1 GiB by default, and at least sixteen times
    /// `batch_bytes`.
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spool_bytes = bytes;
        self
    }

    /// Sets how long the answer to a request may take before it is sent again: 30 seconds by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets the bounds of the random wait before a request is sent again: the first one, which doubles, and the longest; 50 ms
    /// and 10 seconds by default. What `Retry-After` asks for is added.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first, longest);
        self
    }

    /// Opens the spool, and starts the tasks of the client on the runtime of the caller.
    ///
    /// # Errors
    /// When a setting has no such value, or a file or the spool cannot be used. Whether there is a server is not looked at.
    pub async fn build(self) -> Result<Client, BuildError> {
        self.check()?;
        let wrong = |setting| move |reason| BuildError::Setting { setting, reason };
        let url = Url::parse(&self.url).map_err(|error| wrong("url")(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("url")("must begin with http:// or https://".to_owned()));
        }
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Token::fixed(token).map_err(wrong("token"))?,
            (None, Some(file)) => Token::file(file).map_err(wrong("token_file"))?,
            (None, None) => Token::None,
        };
        let http = Http::new(&url, self.ca_file.as_deref(), token, self.request_timeout).map_err(BuildError::Http)?;
        let opened = match self.spool {
            Some(dir) => {
                let opened = tokio::task::spawn_blocking(move || Spool::open(&dir, self.spool_bytes)).await;
                Some(opened.map_err(|error| wrong("spool")(error.to_string()))??)
            }
            None => None,
        };
        let counters = Arc::new(Counters::default());
        let (first_backoff, max_backoff) = self.backoff;
        let core = Arc::new(Core {
            courier: Courier { http, first_backoff, max_backoff, counters: counters.clone() },
            slots: Arc::new(Semaphore::new(self.settings.in_flight)),
            settings: self.settings,
            counters,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        Ok(start(core, opened))
    }

    fn check(&self) -> Result<(), BuildError> {
        let Settings { batch_events, batch_bytes, in_flight, memory_bytes, .. } = self.settings;
        let spool_min = 16 * batch_bytes as u64;
        let checks = [
            ("token", self.token.is_none() || self.token_file.is_none(), "not together with token_file".to_owned()),
            ("batch_events", (1..=SERVER_EVENTS).contains(&batch_events), format!("from 1 to {SERVER_EVENTS}")),
            ("batch_bytes", (1024..=SERVER_BYTES).contains(&batch_bytes), format!("from 1024 to {SERVER_BYTES}")),
            ("in_flight", (1..=256).contains(&in_flight), "from 1 to 256".to_owned()),
            (
                "memory_bytes",
                (2 * batch_bytes..=Semaphore::MAX_PERMITS).contains(&memory_bytes),
                format!("at least twice batch_bytes, {}", 2 * batch_bytes),
            ),
            (
                "spool_bytes",
                self.spool.is_none() || self.spool_bytes >= spool_min,
                format!("at least sixteen times batch_bytes, {spool_min}"),
            ),
        ];
        let wrong = checks.into_iter().find(|(_, is_good, _)| !is_good);
        wrong.map_or(Ok(()), |(setting, _, reason)| Err(BuildError::Setting { setting, reason }))
    }
}

fn start(core: Arc<Core>, opened: Option<(Spool, Recovery)>) -> Client {
    let (sender, orders) = mpsc::unbounded_channel();
    let Settings { batch_events: events, batch_bytes: bytes, linger, memory_bytes, .. } = core.settings;
    let collector = Collector { orders, events, bytes, linger, over: None };
    let stop = core.stop.clone();
    let (spooler, recovery) = match opened {
        None => {
            core.tasks.spawn(collector.run(Memory(core.clone()), stop));
            (None, None)
        }
        Some((spool, recovery)) => {
            core.counters.begin(recovery.events);
            let (spool, ready) = (Arc::new(spool), Arc::new(Notify::new()));
            let spooler = Arc::new(Spooler { core: core.clone(), spool, waiters: Arc::new(Waiters::default()), ready });
            core.tasks.spawn(collector.run(spooler.clone(), stop));
            core.tasks.spawn(spooler.clone().dispatch());
            (Some(spooler), Some(recovery))
        }
    };
    let memory = Arc::new(Semaphore::new(memory_bytes));
    Client(Arc::new(Handle { core, orders: RwLock::new(Some(sender)), memory, spooler, recovery }))
}
