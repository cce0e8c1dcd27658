//! What became of a request, for clients that wait until it is stored.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sluice_event::ReceiptId;
use sluice_service::backoff::Backoff;
use sluice_service::problem::Problem;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use utoipa::ToSchema;

use crate::forward::{Aggregators, at};
use crate::problems::invalid_wait;

/// The largest number of requests that wait at the same time. Others are answered once they are in the log.
const MAX_WAITING: usize = 1_024;
/// Pauses between questions to aggregators that do not answer grow from the first to the second.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// An answer is a small document.
const MAX_ANSWER: usize = 4 << 10;

/// What became of the events of a request. The numbers are those of all its events that were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// Number of events that were stored.
    #[schema(example = 2)]
    pub stored: u64,
    /// Number of events that were dropped because they are stored already.
    #[schema(example = 0)]
    pub duplicates: u64,
    /// Of the duplicates, those whose payload differs from the stored one.
    #[schema(example = 0)]
    pub conflicts: u64,
    /// Number of events that the store refused, and that became dead letters.
    #[schema(example = 0)]
    pub dead_lettered: u64,
}

impl Outcome {
    /// The outcome of a request without events.
    pub(crate) const NOTHING: Self = Self { stored: 0, duplicates: 0, conflicts: 0, dead_lettered: 0 };
}

/// Knows what became of requests.
pub trait OutcomeSource: Send + Sync + 'static {
    /// Waits until it is known what became of the request with this receipt. It is cancelled when the client waits no longer.
    /// `authorization` is the header of the client.
    fn outcome(&self, receipt: ReceiptId, authorization: Option<HeaderValue>) -> BoxFuture<'_, Outcome>;
}

/// How clients wait.
#[derive(Clone)]
pub(crate) struct Outcomes {
    source: Arc<dyn OutcomeSource>,
    places: Arc<Semaphore>,
    max: Duration,
}

impl Outcomes {
    pub(crate) fn new(source: Arc<dyn OutcomeSource>, max: Duration) -> Self {
        Self { source, places: Arc::new(Semaphore::new(MAX_WAITING)), max }
    }

    /// Waits for what became of a request; `None` if it is not known in time, or if too many requests wait.
    pub(crate) async fn wait(&self, receipt: ReceiptId, wait: Wait, headers: &HeaderMap) -> Option<Outcome> {
        let deadline = Instant::now() + wait.max.map_or(self.max, |max| max.min(self.max));
        let _place = self.places.try_acquire().ok()?;
        let authorization = headers.get(header::AUTHORIZATION).cloned();
        timeout_at(deadline, self.source.outcome(receipt, authorization)).await.ok()
    }
}

/// How long a client waits until its request is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// The longest, if the client says it.
    max: Option<Duration>,
    /// Whether it was asked for by the header `Prefer`.
    pub(crate) is_preference: bool,
}

/// Reads `wait=stored` of the query, or `wait` of the header `Prefer` (RFC 7240, section 4.3).
///
/// # Errors
/// `invalid_query`.
pub(crate) fn wanted(uri: &Uri, headers: &HeaderMap) -> Result<Option<Wait>, Problem> {
    let mut values = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("wait="));
    match (values.next(), values.next()) {
        (Some("stored"), None) => return Ok(Some(Wait { max: None, is_preference: false })),
        (None, _) => {}
        _ => return Err(invalid_wait()),
    }
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let preference = preferences.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        name.trim().eq_ignore_ascii_case("wait").then(|| value.split(';').next().unwrap_or_default())
    });
    // A preference that cannot be understood is ignored (section 2).
    let seconds = preference.and_then(|value| value.trim().trim_matches('"').parse().ok());
    Ok(seconds.map(|seconds| Wait { max: Some(Duration::from_secs(seconds)), is_preference: true }))
}

/// Asks the aggregators, with the token of the client.
pub(crate) struct AskAggregators {
    pub(crate) client: Aggregators,
    pub(crate) base: Uri,
}

impl OutcomeSource for AskAggregators {
    fn outcome(&self, receipt: ReceiptId, authorization: Option<HeaderValue>) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);
            loop {
                // It waits, too.
                match self.ask(receipt, authorization.clone()).await {
                    Some(Some(outcome)) => return outcome,
                    Some(None) => backoff.reset(),
                    None => sleep(backoff.next()).await,
                }
            }
        })
    }
}

impl AskAggregators {
    /// Returns the answer of an aggregator; `None` if there is none that can be used.
    async fn ask(&self, receipt: ReceiptId, authorization: Option<HeaderValue>) -> Option<Option<Outcome>> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = at(&self.base, &format!("/outcomes/{}", receipt.as_u128())).ok()?;
        if let Some(authorization) = authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        let answer = self.client.request(request).await.ok()?;
        match answer.status() {
            StatusCode::NO_CONTENT => Some(None),
            StatusCode::OK => {
                let body = to_bytes(Body::new(answer.into_body()), MAX_ANSWER).await.ok()?;
                serde_json::from_slice(&body).ok().map(Some)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str, prefer: &[&str]) -> Result<Option<Wait>, Problem> {
        let mut headers = HeaderMap::new();
        for value in prefer {
            headers.append("prefer", value.parse().unwrap());
        }
        wanted(&format!("/publish{query}").parse().unwrap(), &headers)
    }

    #[test]
    fn a_client_waits_by_a_parameter_or_by_a_preference() {
        let parameter = Some(Wait { max: None, is_preference: false });
        assert_eq!(of("?wait=stored", &[]).unwrap(), parameter);
        assert_eq!(of("?partial=true&wait=stored", &["wait=3"]).unwrap(), parameter, "the parameter decides");
        let seconds = |n| Some(Wait { max: Some(Duration::from_secs(n)), is_preference: true });
        assert_eq!(of("", &["return=minimal, Wait=3"]).unwrap(), seconds(3));
        assert_eq!(of("", &["respond-async", "wait=\"10\"; x=y"]).unwrap(), seconds(10));
        for prefer in [&[][..], &["respond-async"], &["wait"], &["wait=soon"], &["waiting=3"]] {
            assert_eq!(of("?a=b", prefer).unwrap(), None, "{prefer:?}");
        }
        for query in ["?wait=", "?wait=true", "?wait=stored&wait=stored"] {
            let problem = serde_json::to_value(of(query, &[]).unwrap_err()).unwrap();
            assert_eq!((&problem["code"], &problem["field"]), (&"invalid_query".into(), &"wait".into()), "{query}");
        }
    }
}
