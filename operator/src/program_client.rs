//! Reads the state of a resource's programs over HTTP, or HTTPS if they have certificates, by the DNS names of their
//! Services. Outside the cluster these names cannot be resolved, and everything is unknown.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use crate::contract::{
    AGGREGATOR_PORT, BACKLOG_METRIC, ENTRY_BYTES_METRIC, EVENTS_METRIC, MEMORY_METRIC, METRICS_PATH, METRICS_PORT,
    PUBLISHER_PORT, READY_PATH, STATS_PATH, STORE_BYTES_METRIC,
};
use crate::controller::build::names::{Component, Names};
use crate::controller::upgrade::measured::Measured;
use crate::crd::Totals;
use crate::trust::{self, Trust, Trusted};

/// How long a response may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// Maximum size of a response, in bytes.
const MAX_RESPONSE: usize = 4 << 20;
/// Maximum length of a program's explanation that is repeated, in characters.
const MAX_DETAIL: usize = 300;

/// The HTTP client for the programs.
pub struct Programs {
    http: reqwest::Client,
    trust: Trust,
    /// The operator's token for the resources that have authentication.
    tokens: Mutex<HashMap<trust::Key, String>>,
}

impl Programs {
    /// Creates the client.
    ///
    /// # Errors
    /// If no HTTP client can be created.
    pub fn new() -> anyhow::Result<Self> {
        let client = sluice_service::client_tls::plain_client().map_err(anyhow::Error::msg)?;
        Ok(Self { http: client.timeout(DEADLINE).build()?, trust: Trust::default(), tokens: Mutex::default() })
    }

    /// Returns the number of events that are accepted and not stored yet; `None` when it is unknown.
    pub async fn backlog(&self, names: &Names) -> Option<i64> {
        let (service, port) = if self.has_metrics_port(names) {
            (names.publisher_metrics(), METRICS_PORT)
        } else {
            (names.of(Component::Publisher), PUBLISHER_PORT)
        };
        let url = format!("http://{}:{port}{METRICS_PATH}", names.host(&service));
        let text = successful(get(&self.http, &url, None).await?)?;
        gauge(&text, BACKLOG_METRIC)
    }

    /// Returns what the programs report about the load, as far as they do.
    pub async fn load(&self, names: &Names) -> Measured {
        let (publisher, aggregator, port) = if self.has_metrics_port(names) {
            (names.publisher_metrics(), names.of(Component::Aggregator), METRICS_PORT)
        } else {
            (names.of(Component::Publisher), names.of(Component::Aggregator), 0)
        };
        let url = |service: &str, own: i32| {
            let port = if port == 0 { own } else { port };
            format!("http://{}:{port}{METRICS_PATH}", names.host(service))
        };
        let (publisher, aggregator) = (url(&publisher, PUBLISHER_PORT), url(&aggregator, AGGREGATOR_PORT));
        let (publisher, aggregator) =
            tokio::join!(get(&self.http, &publisher, None), get(&self.http, &aggregator, None));
        let publisher = publisher.and_then(successful).unwrap_or_default();
        let aggregator = aggregator.and_then(successful).unwrap_or_default();
        let (bytes, events) = (number(&publisher, ENTRY_BYTES_METRIC), number(&publisher, EVENTS_METRIC));
        Measured {
            database_bytes: gauge(&aggregator, STORE_BYTES_METRIC),
            event_bytes: bytes.zip(events).filter(|(_, events)| *events > 0.0).map(|(bytes, events)| bytes / events),
            memory_ratio: number(&publisher, MEMORY_METRIC),
            ..Measured::default()
        }
    }

    /// Returns the totals; `None` when they are unknown.
    pub async fn totals(&self, names: &Names) -> Option<Totals> {
        let (scheme, client) = self.client(names);
        let host = names.host(&names.of(Component::Aggregator));
        let url = format!("{scheme}://{host}:{AGGREGATOR_PORT}{STATS_PATH}");
        let text = successful(get(&client, &url, self.token(names).as_deref()).await?)?;
        match serde_json::from_str::<Stats>(&text) {
            Ok(stats) => Some(stats.into()),
            Err(error) => {
                tracing::debug!(name = names.name, %error, "the aggregators' statistics cannot be read");
                None
            }
        }
    }

    /// Returns the reason that an aggregator's pod itself gives for not being ready; `None` when it is ready or
    /// does not respond.
    pub async fn why_not_ready(&self, names: &Names, pod: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }
        let host = names.host(&format!("{pod}.{}", names.aggregator_pods()));
        let port = if self.has_metrics_port(names) { METRICS_PORT } else { AGGREGATOR_PORT };
        let (status, text) = get(&self.http, &format!("http://{host}:{port}{READY_PATH}"), None).await?;
        let problem = serde_json::from_str::<Problem>(&text).ok().filter(|_| !status.is_success())?;
        Some(problem.detail.chars().take(MAX_DETAIL).collect())
    }

    /// Remembers how to connect to the programs of a resource: with these certificates, or without TLS.
    pub fn trust(&self, names: &Names, trusted: Option<&Trusted>) {
        let Some(trusted) = trusted else { return self.trust.unset(names) };
        if let Err(error) = self.trust.set(names, trusted, DEADLINE) {
            tracing::warn!(name = names.name, error, "cannot use the certificates for the aggregators");
        }
    }

    /// Remembers the operator's token for the programs of a resource, or that they need none.
    pub fn authenticate(&self, names: &Names, token: Option<String>) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match token {
            Some(token) => tokens.insert(trust::key(names), token),
            None => tokens.remove(&trust::key(names)),
        };
    }

    /// Whether all is known that is needed to connect to the programs of a resource: with `tls`, with `auth`.
    pub fn knows(&self, names: &Names, tls: bool, auth: bool) -> bool {
        (!tls || self.trust.client(names).is_some()) && (!auth || self.token(names).is_some())
    }

    /// Forgets these resources, which were deleted.
    pub fn forget<'a>(&self, resources: impl Iterator<Item = &'a trust::Key>) {
        let gone: Vec<_> = resources.collect();
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !gone.contains(&key));
        self.trust.forget(gone.into_iter());
    }

    fn token(&self, names: &Names) -> Option<String> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&trust::key(names)).cloned()
    }

    /// Whether metrics and probes are at a port of their own, which speaks no TLS and needs no token.
    fn has_metrics_port(&self, names: &Names) -> bool {
        self.trust.client(names).is_some() || self.token(names).is_some()
    }

    fn client(&self, names: &Names) -> (&'static str, reqwest::Client) {
        self.trust.client(names).map_or_else(|| ("http", self.http.clone()), |client| ("https", client))
    }
}

/// Returns the text of a response that is no problem.
fn successful((status, text): (reqwest::StatusCode, String)) -> Option<String> {
    status.is_success().then_some(text)
}

/// Returns the response; `None` when it does not arrive in time or is too long.
async fn get(client: &reqwest::Client, url: &str, token: Option<&str>) -> Option<(reqwest::StatusCode, String)> {
    let response = async {
        let request = client.get(url);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let mut response = request.send().await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            anyhow::ensure!(body.len() + chunk.len() <= MAX_RESPONSE, "the response is too long");
            body.extend_from_slice(&chunk);
        }
        anyhow::Ok((response.status(), String::from_utf8(body)?))
    };
    response.await.inspect_err(|error| tracing::debug!(url, ?error, "no response")).ok()
}

/// Returns the value of a gauge in the Prometheus text format; `None` when it is absent or not a number.
fn gauge(text: &str, name: &str) -> Option<i64> {
    // Counts of events are far below the numbers that floating point rounds.
    number(text, name).map(|value| value.round() as i64)
}

/// The same without rounding.
fn number(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = match rest.strip_prefix('{') {
            Some(labels) => labels.split_once('}')?.1,
            None => rest,
        };
        rest.strip_prefix(' ')?.split(' ').next()
    })?;
    let value: f64 = value.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// The fields of the aggregators' `/stats` that the operator uses.
#[derive(Debug, Deserialize)]
struct Stats {
    received: i64,
    unique_processed: i64,
    duplicate_dropped: i64,
    #[serde(default)]
    conflicts: i64,
    #[serde(default)]
    dead_lettered: i64,
}

impl From<Stats> for Totals {
    fn from(stats: Stats) -> Self {
        Self {
            received: stats.received,
            unique_processed: stats.unique_processed,
            duplicate_dropped: stats.duplicate_dropped,
            conflicts: stats.conflicts,
            dead_lettered: stats.dead_lettered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_that_is_absent_or_no_number_is_unknown_and_not_zero() {
        let text = "# TYPE sluice_publish_backlog_events gauge\nsluice_publish_backlog_events 12\nother 3\n";
        assert_eq!(gauge(text, "sluice_publish_backlog_events"), Some(12));
        assert_eq!(gauge(text, "other"), Some(3));
        assert_eq!(gauge(text, "missing"), None);
        assert_eq!(gauge("a NaN\n", "a"), None);
        assert_eq!(gauge("a{stream=\"0\"} 1.2e3\n", "a"), Some(1_200));
        assert_eq!(gauge("ab 1\n", "a"), None);
    }
}
