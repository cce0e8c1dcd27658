//! A set of keys that is fetched from a URL in the background, and that is kept while the issuer is away.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use axum::body::{Body, HttpBody};
use axum::http::{Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::Algorithm;
use ring::digest::{Digest, SHA256, digest};
use sluice_service::backoff::Backoff;
use sluice_service::client_tls::ClientTls;
use tokio::sync::{Notify, watch};

use super::key_set::{KeySet, MAX_BYTES};
use crate::metrics;

/// How often the keys are fetched: the longest that a key which the issuer has withdrawn is still accepted.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// How often a token with an unknown key may have them fetched: anybody can send one.
const UNKNOWN_EVERY: Duration = Duration::from_secs(60);
/// The time limit of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a request waits for a fetch, for the key that it needs.
const WAIT: Duration = Duration::from_secs(5);
/// Pauses after a failed fetch grow from the first to the second.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The value of the label in metrics.
pub(super) const LABEL: &str = "jwks";

/// The keys behind a URL.
pub(super) struct Fetched {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Body>,
    tls: ClientTls,
    /// `None` until they were fetched for the first time.
    keys: ArcSwapOption<KeySet>,
    rounds: watch::Sender<Rounds>,
    wake: Notify,
    /// The last time at which an unknown key had them fetched.
    unknown: Mutex<Option<Instant>>,
}

/// The fetches so far.
#[derive(Debug, Clone, Copy)]
struct Rounds {
    /// How many have ended, well or not.
    ended: u64,
    /// Whether one goes on.
    running: bool,
    /// How many must have ended until a key that is still missing is unknown.
    wanted: u64,
}

impl Fetched {
    /// Fetches the keys, now and from time to time, until what is returned is dropped. Redirects are not followed:
    /// whoever may write one must not choose whose keys are trusted. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The name of the option with a file that cannot be read, and the reason.
    pub(super) fn start(url: Uri, tls: ClientTls) -> Result<Arc<Self>, String> {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls.config()?);
        let connector = connector.https_or_http().enable_http1().build();
        let fetched = Arc::new(Self {
            url,
            client: Client::builder(TokioExecutor::new()).build(connector),
            tls,
            keys: ArcSwapOption::empty(),
            rounds: watch::Sender::new(Rounds { ended: 0, running: false, wanted: 1 }),
            wake: Notify::new(),
            unknown: Mutex::default(),
        });
        ::metrics::gauge!(metrics::SOURCE_CURRENT.name, "source" => LABEL).set(0.0);
        tokio::spawn(run(Arc::downgrade(&fetched)));
        Ok(fetched)
    }

    /// Returns the last keys, or `None` if there were none yet.
    pub(super) fn current(&self) -> arc_swap::Guard<Option<Arc<KeySet>>> {
        self.keys.load()
    }

    /// Returns the keys, among which one is. If it is unknown, they are fetched again, at most once a minute, and this
    /// waits a few seconds for that. `None` if there were no keys yet.
    pub(super) async fn with(&self, kid: &str, algorithm: Algorithm) -> Option<Arc<KeySet>> {
        let found = || {
            let keys = self.keys.load_full();
            keys.filter(|keys| keys.find(kid, algorithm).is_some())
        };
        if let Some(keys) = found() {
            return Some(keys);
        }
        let mut rounds = self.rounds.subscribe();
        self.demand();
        let waiting = rounds.wait_for(|rounds| rounds.ended >= rounds.wanted || found().is_some());
        let _ = tokio::time::timeout(WAIT, waiting).await;
        self.keys.load_full()
    }

    /// Has the keys fetched, unless that was done within the last minute.
    fn demand(&self) {
        let now = Instant::now();
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.is_some_and(|last| now.duration_since(last) < UNKNOWN_EVERY) {
            return;
        }
        *unknown = Some(now);
        // A fetch that goes on may have been answered before the key was there.
        self.rounds.send_modify(|rounds| rounds.wanted = rounds.ended + u64::from(rounds.running) + 1);
        // Kept until the next pause, if there is none at the moment.
        self.wake.notify_one();
    }

    /// Fetches the keys once. `last` is the content that was last in force.
    async fn fetch(&self, last: &mut Option<Digest>) -> Result<(), String> {
        let content = tokio::time::timeout(FETCH_TIMEOUT, self.get()).await;
        let content = content.map_err(|_| format!("no answer within {FETCH_TIMEOUT:?}"))?;
        let content = content.map_err(|error| format!("{error:#}"))?;
        let hash = digest(&SHA256, &content);
        if last.as_ref().is_some_and(|last| last.as_ref() == hash.as_ref()) {
            return Ok(());
        }
        let keys = KeySet::parse(&content)?;
        tracing::info!(keys = keys.len(), "--jwt-jwks: the keys of the issuer are in force");
        self.keys.store(Some(Arc::new(keys)));
        *last = Some(hash);
        Ok(())
    }

    async fn get(&self) -> anyhow::Result<Vec<u8>> {
        let request = Request::get(&self.url).header(header::ACCEPT, "application/json").body(Body::empty())?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| match self.tls.explain(&error) {
            Some(reason) => anyhow::Error::msg(reason),
            None => error.into(),
        })?;
        anyhow::ensure!(response.status() == StatusCode::OK, "the issuer returned {}", response.status());
        let (mut body, mut content) = (response.into_body(), Vec::new());
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            // A frame that is not data is trailers.
            let Ok(chunk) = frame?.into_data() else { continue };
            anyhow::ensure!(content.len() + chunk.len() <= MAX_BYTES, "the keys have more than {MAX_BYTES} bytes");
            content.extend_from_slice(&chunk);
        }
        Ok(content)
    }
}

/// Fetches the keys until nobody needs them any more.
async fn run(fetched: Weak<Fetched>) {
    let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);
    let mut last = None;
    let mut reported = None;
    while let Some(held) = fetched.upgrade() {
        held.rounds.send_modify(|rounds| {
            (rounds.running, rounds.wanted) = (true, rounds.wanted.max(rounds.ended + 1));
        });
        let result = held.fetch(&mut last).await;
        held.rounds.send_modify(|rounds| (rounds.running, rounds.ended) = (false, rounds.ended + 1));
        let current = ::metrics::gauge!(metrics::SOURCE_CURRENT.name, "source" => LABEL);
        let pause = match result {
            Ok(()) => {
                current.set(1.0);
                backoff.reset();
                reported = None;
                EVERY
            }
            Err(reason) => {
                current.set(0.0);
                ::metrics::counter!(metrics::SOURCE_FAILURES.name, "source" => LABEL).increment(1);
                // Once for each reason: it is tried again for as long as the issuer is away.
                if reported.as_ref() != Some(&reason) {
                    let url = &held.url;
                    tracing::error!(%url, reason, "--jwt-jwks: the keys cannot be fetched: the last ones stay in force");
                    reported = Some(reason);
                }
                // Never without a pause, which a random wait may be.
                backoff.next().max(FIRST_BACKOFF)
            }
        };
        // Not held while it pauses, so that it ends when it is dropped.
        let woken = {
            let waiting = fetched.clone();
            drop(held);
            pause_or_demand(&waiting, pause).await
        };
        if !woken {
            return;
        }
    }
}

/// Waits for a while, or until an unknown key has the keys fetched. Returns false when nobody needs them any more.
async fn pause_or_demand(fetched: &Weak<Fetched>, pause: Duration) -> bool {
    /// How often it is checked whether somebody still needs the keys.
    const STEP: Duration = Duration::from_secs(5);
    let until = tokio::time::Instant::now() + pause;
    while tokio::time::Instant::now() < until {
        let Some(held) = fetched.upgrade() else { return false };
        let step = until.min(tokio::time::Instant::now() + STEP);
        if tokio::time::timeout_at(step, held.wake.notified()).await.is_ok() {
            return true;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use sluice_service::client_tls::{ClientFiles, ClientOptions};
    use sluice_service::tls::Names;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_document_without_an_end_is_given_up_when_it_is_too_large() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1_024]).await;
                let mut piece = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
                while stream.write_all(&piece).await.is_ok() {
                    piece = vec![b' '; 64 << 10];
                }
            }
        });
        let names = Names { server: "the issuer", url: "--url", ca: "--ca", certificate: "--cert" };
        let tls = ClientTls::new(ClientOptions { names, cert: "--cert", key: "--key" }, ClientFiles::default());
        let fetched = Fetched::start(url, tls).unwrap();
        let given_up = tokio::time::timeout(Duration::from_secs(60), fetched.get()).await;
        let error = given_up.expect("it is read for ever").unwrap_err().to_string();
        assert_eq!(error, format!("the keys have more than {MAX_BYTES} bytes"));
        assert!(fetched.current().is_none());
    }
}
