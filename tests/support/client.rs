//! An HTTP client, as users of the system have one.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use rustls::ClientConfig;
use serde_json::Value;

use crate::certificates::{client_config, ours};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(120);
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client of one address.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// A response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

/// Returns a client of HTTP for the system at `base`. Over TLS it has our certificate, and it trusts our CA alone.
pub fn http(base: &str) -> reqwest::Client {
    builder(tls_for(base)).build().expect("an HTTP client")
}

fn tls_for(base: &str) -> ClientConfig {
    if base.starts_with("https://") {
        client_config(Some(ours().authority.ca()), Some(&ours().client))
    } else {
        client_config(None, None)
    }
}

/// Connections that were idle for long are not used again: the server, which closes them after 30 seconds, may do so
/// while a request is on its way.
fn builder(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(TIMEOUT).pool_idle_timeout(IDLE_TIMEOUT)
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {} {}", self.status, self.text))
    }

    /// The content type without its parameters.
    pub fn content_type(&self) -> &str {
        let value = self.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }

    /// Fails unless this is a problem document of the given status and code that is complete.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.content_type(), "application/problem+json", "{} {}", self.status, self.text);
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], format!("urn:sluice:problem:{code}"), "{problem}");
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {problem}");
        }
        problem
    }

    /// Fails unless the response has this status, and returns it.
    #[track_caller]
    pub fn assert_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

impl Client {
    /// Creates a client of the system at `base`. Over TLS it has our certificate.
    pub fn new(base: &str) -> Self {
        Self { http: http(base), base: base.to_owned() }
    }

    /// Creates a client of the server at `base` with these settings of TLS.
    pub fn with_tls(base: &str, tls: ClientConfig) -> Self {
        let http = builder(tls).build().expect("an HTTP client");
        Self { http, base: base.to_owned() }
    }

    /// Returns a client of the same address that sends a token with each request.
    pub fn with_token(&self, token: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("a token"));
        let http = builder(tls_for(&self.base)).default_headers(headers);
        Self { http: http.build().expect("an HTTP client"), base: self.base.clone() }
    }

    /// Sends a request that [`Client::request`] began.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap_or_else(|e| panic!("no answer from {}: {e:?}", self.base))
    }

    /// Like [`Client::send`], for requests that may receive no response.
    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { status, headers, text: answer.text().await? })
    }

    /// Returns a request to a path, to be completed by the caller.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    /// Sends `GET path`, which must return 200 with JSON.
    pub async fn get_json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text);
        answer.json()
    }

    /// `POST path` without a body.
    pub async fn post(&self, path: &str) -> Answer {
        self.send(self.request("POST", path)).await
    }

    /// `POST /publish` of any bytes as JSON.
    pub async fn publish_raw(&self, body: impl Into<Vec<u8>>) -> Answer {
        let request = self.request("POST", "/publish").header(CONTENT_TYPE, "application/json");
        self.send(request.body(body.into())).await
    }

    /// `POST /publish` of JSON, under an `Idempotency-Key`.
    pub async fn publish_keyed(&self, key: &str, body: &Value) -> Answer {
        let request = self.request("POST", "/publish").header(CONTENT_TYPE, "application/json");
        self.send(request.header("Idempotency-Key", key).body(body.to_string())).await
    }

    /// Sends `POST /publish` with JSON, which must be accepted. Returns the number of accepted events.
    pub async fn publish(&self, body: &Value) -> u64 {
        let answer = self.publish_raw(body.to_string()).await;
        let start: String = body.to_string().chars().take(200).collect();
        assert_eq!(answer.status, 202, "{} for {start}…", answer.text);
        let json = answer.json();
        assert_eq!(json["status"], "accepted", "{json}");
        json["count"].as_u64().expect("a count")
    }

    /// The address of the system.
    pub fn base(&self) -> &str {
        &self.base
    }
}
