//! The way of the one route that nearly all requests are for, past the router.
//!
//! A router keeps its routes and its layers in boxes, makes copies of them for each request, and has
//! metrics looked up by their labels: for a request of one small event that took as long as the event
//! itself. What such a route answers is logged and counted as everything else is
//! ([`crate::request_log`]).

use std::panic::AssertUnwindSafe;
use std::sync::{OnceLock, PoisonError, RwLock};

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures::FutureExt;
use hyper::body::Incoming;
use metrics::{Counter, Histogram};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span};

use sluice_event::RequestId;

use crate::request_log::Asked;

/// A route that is answered without the router. The router has it all the same, for other methods.
pub trait Shortcut: Send + Sync + 'static {
    /// Its method.
    const METHOD: Method;
    /// Its path, which has no parameters.
    const PATH: &'static str;

    /// Answers a request. Nothing that it logs is above debug: the request's span is there only when
    /// debug is logged, or for the line about a refusal.
    fn answer(&self, id: RequestId, request: Request<Incoming>) -> impl Future<Output = Response> + Send;
}

/// The shortcut of a server that has none.
pub(crate) enum Never {}

impl Shortcut for Never {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "";

    async fn answer(&self, _: RequestId, _: Request<Incoming>) -> Response {
        match *self {}
    }
}

/// A shortcut with its metrics.
pub(crate) struct Counted<S> {
    shortcut: S,
    seconds: OnceLock<Histogram>,
    /// By status; there are few of them.
    answers: RwLock<Vec<(StatusCode, Counter)>>,
}

impl<S: Shortcut> Counted<S> {
    pub(crate) fn new(shortcut: S) -> Self {
        Self { shortcut, seconds: OnceLock::new(), answers: RwLock::default() }
    }

    /// Whether a request is for this route.
    pub(crate) fn takes(&self, request: &Request<Incoming>) -> bool {
        request.uri().path() == S::PATH && *request.method() == S::METHOD
    }

    /// What [`crate::request_log::middleware`] does.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response {
        let asked = Asked::begin(&request);
        // Writing the span's fields is a good part of what a small request takes.
        let early = if LevelFilter::current() > LevelFilter::INFO { asked.span(S::PATH) } else { Span::none() };
        asked.note_given(&early, &request);
        let answering = self.shortcut.answer(asked.id, request).instrument(early.clone());
        let answer = AssertUnwindSafe(answering).catch_unwind().await;
        let span = || if early.is_none() { asked.span(S::PATH) } else { early };
        let (response, seconds) = asked.end(answer, span);
        self.count(asked.method, response.status(), seconds);
        response
    }

    fn count(&self, method: &'static str, status: StatusCode, seconds: f64) {
        let seconds_of = || metrics::histogram!(crate::metrics::HTTP_REQUEST_SECONDS.name, "path" => S::PATH);
        self.seconds.get_or_init(seconds_of).record(seconds);
        let known = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = known.iter().find(|(known, _)| *known == status) {
            return counter.increment(1);
        }
        drop(known);
        let text = status.as_u16().to_string();
        let counter = metrics::counter!(crate::metrics::HTTP_REQUESTS.name, "method" => method, "path" => S::PATH, "status" => text);
        counter.increment(1);
        let mut known = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        if known.iter().all(|(known, _)| *known != status) {
            known.push((status, counter));
        }
    }
}
