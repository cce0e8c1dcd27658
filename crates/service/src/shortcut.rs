//! A route that is served without the router: the one that nearly all requests use.
//!
//! A router holds its routes and layers in boxes, clones them for each request, and its metrics are looked up by
//! their labels. For a request with one small event this took as long as the event itself. The responses of a
//! shortcut are logged and counted like all others ([`crate::request_log`]), and its requests pass the same guard
//! ([`crate::guard`]).

use std::panic::AssertUnwindSafe;
use std::sync::{OnceLock, PoisonError, RwLock};

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use hyper::body::Incoming;
use metrics::{Counter, Histogram};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span};

use sluice_event::RequestId;

use crate::guard::{Checked, Identity};
use crate::request_log::RequestInFlight;

/// A route that is served without the router. The router has the same path for other methods.
pub trait Shortcut: Send + Sync + 'static {
    /// The route's method.
    const METHOD: Method;
    /// The route's path, which has no parameters.
    const PATH: &'static str;

    /// Handles a request and returns its response. It may log at debug and trace only, because the request's
    /// span exists only when debug is logged, or for the log line about a refusal.
    fn answer(
        &self,
        id: RequestId,
        sender: Option<&dyn Identity>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response> + Send;
}

/// An extension of a response that refuses a request after its body was read: the connection goes on. After other refusals
/// of large requests it ends.
#[derive(Debug, Clone, Copy)]
pub struct BodyWasRead;

/// The shortcut type of a server without a shortcut.
pub(crate) enum NoShortcut {}

impl Shortcut for NoShortcut {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "";

    async fn answer(&self, _: RequestId, _: Option<&dyn Identity>, _: Request<Incoming>) -> Response {
        match *self {}
    }
}

/// A shortcut with its metrics.
pub(crate) struct Counted<S> {
    shortcut: S,
    seconds: OnceLock<Histogram>,
    /// A counter for each status that was returned; there are few of them.
    by_status: RwLock<Vec<(StatusCode, Counter)>>,
}

impl<S: Shortcut> Counted<S> {
    pub(crate) fn new(shortcut: S) -> Self {
        Self { shortcut, seconds: OnceLock::new(), by_status: RwLock::default() }
    }

    /// Returns whether a request is for this route.
    pub(crate) fn matches(&self, request: &Request<Incoming>) -> bool {
        request.uri().path() == S::PATH && *request.method() == S::METHOD
    }

    /// Handles a request, including everything that [`crate::request_log::middleware`] does for the router.
    pub(crate) async fn answer(&self, mut request: Request<Incoming>, checked: Checked) -> Response {
        let (in_flight, refusal) = RequestInFlight::start(&request, checked);
        in_flight.pass_trace_on(&mut request);
        // Formatting the span's fields takes a large part of a small request's time, so it is done only if needed.
        let early = if LevelFilter::current() > LevelFilter::INFO { in_flight.span(S::PATH) } else { Span::none() };
        in_flight.log_foreign_id(&early, &request);
        let answer = match refusal {
            None => {
                let answering =
                    self.shortcut.answer(in_flight.id, in_flight.sender.as_deref(), request).instrument(early.clone());
                AssertUnwindSafe(answering).catch_unwind().await
            }
            Some(problem) => Ok(problem.into_response()),
        };
        let span = || if early.is_none() { in_flight.span(S::PATH) } else { early };
        let (response, seconds) = in_flight.finish(answer, span);
        in_flight.end_trace(Some(S::PATH), response.status());
        self.count(in_flight.method, response.status(), seconds);
        response
    }

    fn count(&self, method: &'static str, status: StatusCode, seconds: f64) {
        let histogram = || metrics::histogram!(crate::metrics::HTTP_REQUEST_SECONDS.name, "path" => S::PATH);
        self.seconds.get_or_init(histogram).record(seconds);
        let counters = self.by_status.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = counters.iter().find(|(counted, _)| *counted == status) {
            return counter.increment(1);
        }
        drop(counters);
        let text = status.as_u16().to_string();
        let counter = metrics::counter!(crate::metrics::HTTP_REQUESTS.name, "method" => method, "path" => S::PATH, "status" => text);
        counter.increment(1);
        let mut counters = self.by_status.write().unwrap_or_else(PoisonError::into_inner);
        if counters.iter().all(|(counted, _)| *counted != status) {
            counters.push((status, counter));
        }
    }
}
