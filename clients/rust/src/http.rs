//! One request and its answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::Failure;
use crate::token::Token;

/// How long a connection may take: a server that is not there is tried again.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: the server closes it after 30 seconds, perhaps while a request is on its way.
const IDLE: Duration = Duration::from_secs(15);
/// How long an answer may be: one with 100 errors is much shorter. What stands between must not fill the memory.
const MAX_ANSWER: usize = 1 << 20;

/// What the server said, or why nothing is known.
#[derive(Debug)]
pub(crate) enum Reply {
    /// An answer that came as a whole.
    Answer {
        status: StatusCode,
        body: Vec<u8>,
        retry_after: Option<Duration>,
        /// Whether the token has changed since the request was sent.
        token_changed: bool,
    },
    /// No answer, or a part of one.
    Lost(Failure),
}

/// The status of an answer, its body, and how long it asks to wait.
type Answered = (StatusCode, Vec<u8>, Option<Duration>);

/// Sends requests to one server.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    publish: Url,
    content_type: &'static str,
    token: Token,
}

impl Http {
    /// Returns a client of the server at `url`, which trusts the CAs of the system and those in the file `ca`.
    pub(crate) fn new(url: &Url, ca: Option<&Path>, token: Token, timeout: Duration) -> Result<Self, String> {
        let roots = if url.scheme() == "https" { roots(ca)? } else { RootCertStore::empty() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            // A redirection could turn the request into another one.
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .timeout(timeout)
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| chain(&error))?;
        let mut publish = publish_at(url)?;
        publish.set_query(Some("partial=true"));
        Ok(Self { client, publish, content_type: "application/x-ndjson", token })
    }

    /// Sends bodies in JSON with a client that is ready, and that adds a token itself.
    pub(crate) fn with(client: Client, url: &Url) -> Result<Self, String> {
        Ok(Self { client, publish: publish_at(url)?, content_type: "application/json", token: Token::None })
    }

    /// Sends a request once.
    pub(crate) async fn publish(&self, key: &str, body: Bytes) -> Reply {
        let token = self.token.header().await;
        match self.attempt(key, body, token.clone()).await {
            Ok((status, body, retry_after)) => {
                let is_refused = status == StatusCode::UNAUTHORIZED;
                let token_changed = is_refused && self.token.header().await != token;
                Reply::Answer { status, body, retry_after, token_changed }
            }
            Err(failure) => Reply::Lost(failure),
        }
    }

    async fn attempt(&self, key: &str, body: Bytes, token: Option<HeaderValue>) -> Result<Answered, Failure> {
        let lost = |error: reqwest::Error| Failure { reason: chain(&error), retry_after: None, error: Some(error) };
        let mut request = self.client.post(self.publish.clone()).body(body);
        request = request.header(CONTENT_TYPE, self.content_type).header("Idempotency-Key", key);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status();
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if answer.len() + chunk.len() > MAX_ANSWER {
                let reason = format!("{status}: the answer has more than {MAX_ANSWER} bytes");
                return Err(Failure { reason, retry_after: None, error: None });
            }
            answer.extend_from_slice(&chunk);
        }
        Ok((status, answer, seconds.map(Duration::from_secs)))
    }
}

/// Returns where the server at `url` takes events.
fn publish_at(url: &Url) -> Result<Url, String> {
    let mut publish = url.clone();
    publish.path_segments_mut().map_err(|()| "this is not the URL of a server")?.pop_if_empty().push("publish");
    Ok(publish)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Systems have some that rustls does not accept.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca {
        let named = |reason: String| format!("{}: {reason}", file.display());
        let before = roots.len();
        let certificates = CertificateDer::pem_file_iter(file).map_err(|error| named(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| named(error.to_string()))?;
            roots.add(certificate).map_err(|error| named(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(named("has no certificate".to_owned()));
        }
    }
    Ok(roots)
}

/// Returns an error with its causes: reqwest's own text leaves them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
