//! Finds out whether the aggregators need tokens, as the publisher does or does not.
//!
//! A publisher passes tokens on and leaves what a subject may read to the aggregators. If their settings are not the
//! same, nobody notices: everything works, and one of them is open. So the publisher asks them for a document that every
//! token may read, without a token, and warns if what they answer is not what it would answer.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, Uri};
use sluice_service::backoff::Backoff;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::forward::{Aggregators, at};

/// How often the aggregators are asked, since they can be restarted with other settings.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// The time limit of an answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pauses while they do not answer grow from the first to the second.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A small answer that needs a token of any scope.
const PATH: &str = "/openapi.json";

/// Compares the aggregators with this publisher, now and from time to time, until `shutdown` is cancelled.
pub(crate) async fn compare(aggregators: Aggregators, base: Uri, needs_tokens: bool, shutdown: CancellationToken) {
    let comparing = async {
        let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);
        let mut told = None;
        loop {
            let pause = match ask(&aggregators, &base).await {
                Some(they_do) => {
                    if told != Some(they_do) {
                        tell(needs_tokens, they_do);
                        told = Some(they_do);
                    }
                    backoff.reset();
                    EVERY
                }
                None => backoff.next().max(FIRST_BACKOFF),
            };
            sleep(pause).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = comparing => {}
    }
}

/// Returns whether the aggregators need a token; `None` if they do not tell.
async fn ask(aggregators: &Aggregators, base: &Uri) -> Option<bool> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::HEAD;
    *request.uri_mut() = at(base, PATH).ok()?;
    let answer = timeout(DEADLINE, aggregators.request(request)).await.ok()?.ok()?;
    match answer.status() {
        StatusCode::UNAUTHORIZED => Some(true),
        status if status.is_success() => Some(false),
        _ => None,
    }
}

fn tell(needs_tokens: bool, they_do: bool) {
    match (needs_tokens, they_do) {
        (true, false) => tracing::warn!(
            "--query-url: the aggregators need no token, and this publisher does: whoever reaches them can read and \
             replay everything, and a token for some topics reads all; give them the same --tokens and --jwt-issuer"
        ),
        (false, true) => tracing::warn!(
            "--query-url: the aggregators need a token, and this publisher does not: whoever reaches it can publish; \
             give it the same --tokens and --jwt-issuer"
        ),
        (true, true) => tracing::info!("--query-url: the aggregators need a token, as this publisher does"),
        (false, false) => tracing::info!("--query-url: the aggregators need no token, as this publisher does not"),
    }
}
