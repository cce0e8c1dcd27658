//! A request's id, its span, its line in the log and its metrics.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use sluice_event::RequestId;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span};

use crate::problem::{self, Logged, Problem};

/// The header that carries the id, in requests and answers.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request its id and its span, turns a panic or an empty error into a problem, logs
/// the outcome (errors at info with their code, server errors at warn, the rest at debug), counts
/// it, and echoes the id. [`server::run`](crate::server::run) applies it to every request.
pub async fn middleware(mut request: Request, next: Next) -> Response {
    let asked = Asked::begin(&request);
    let label = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let span = asked.span(request.uri().path());
    asked.note_given(&span, &request);
    request.extensions_mut().insert(asked.id);

    let answer = AssertUnwindSafe(next.run(request).instrument(span.clone())).catch_unwind().await;
    let (response, seconds) = asked.end(answer, || span);
    count(asked.method, label, response.status(), seconds);
    response
}

/// A request that is being answered.
pub(crate) struct Asked {
    started: Instant,
    pub(crate) id: RequestId,
    pub(crate) method: &'static str,
}

impl Asked {
    /// From its first moment on.
    pub(crate) fn begin<B>(request: &Request<B>) -> Self {
        let id = given(request).and_then(RequestId::parse).unwrap_or_else(RequestId::random);
        Self { started: Instant::now(), id, method: method_label(request.method()) }
    }

    /// What the log says of it beside each line.
    pub(crate) fn span(&self, path: &str) -> Span {
        tracing::info_span!("request", id = %self.id, method = self.method, path)
    }

    /// Keeps a client's own identifier beside ours, so that it finds its request; bounded, it is
    /// foreign.
    pub(crate) fn note_given<B>(&self, span: &Span, request: &Request<B>) {
        if let Some(given) = given(request).filter(|text| RequestId::parse(text).is_none()) {
            let given: String = given.chars().take(128).collect();
            span.in_scope(|| tracing::debug!(given, "the client's X-Request-Id is no UUID"));
        }
    }

    /// The answer as the client gets it, logged, and the seconds that it took.
    pub(crate) fn end(
        &self,
        answer: Result<Response, Box<dyn Any + Send>>,
        span: impl FnOnce() -> Span,
    ) -> (Response, f64) {
        let mut response = answer.unwrap_or_else(|_| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the handler panicked").into_response()
        });
        if is_bare_error(&response) {
            let bare = problem::of_status(response.status()).into_response();
            let allow = response.headers_mut().remove(header::ALLOW);
            response = bare;
            if let Some(allow) = allow {
                response.headers_mut().insert(header::ALLOW, allow);
            }
        }
        let seconds = self.started.elapsed().as_secs_f64();
        log(&response, seconds, span);
        if let Ok(value) = HeaderValue::from_str(self.id.encode(&mut [0; 36])) {
            response.headers_mut().insert(HEADER, value);
        }
        (response, seconds)
    }
}

fn given<B>(request: &Request<B>) -> Option<&str> {
    request.headers().get(HEADER).and_then(|value| value.to_str().ok())
}

/// What a router answers by itself: 404 and 405 without a word.
fn is_bare_error(response: &Response) -> bool {
    let status = response.status();
    (status.is_client_error() || status.is_server_error()) && !response.headers().contains_key(header::CONTENT_TYPE)
}

fn log(response: &Response, seconds: f64, span: impl FnOnce() -> Span) {
    let status = response.status().as_u16();
    match response.extensions().get::<Logged>() {
        Some(Logged { code, detail }) if status >= 500 => {
            span().in_scope(|| tracing::warn!(status, code, detail, seconds, "request failed"));
        }
        Some(Logged { code, detail }) => {
            span().in_scope(|| tracing::info!(status, code, detail, seconds, "request refused"));
        }
        None if LevelFilter::current() >= LevelFilter::DEBUG => {
            span().in_scope(|| tracing::debug!(status, seconds, "request answered"));
        }
        None => {}
    }
}

fn count(method: &'static str, path: String, status: StatusCode, seconds: f64) {
    let status = status.as_u16().to_string();
    metrics::counter!(crate::metrics::HTTP_REQUESTS.name, "method" => method, "path" => path.clone(), "status" => status)
        .increment(1);
    metrics::histogram!(crate::metrics::HTTP_REQUEST_SECONDS.name, "path" => path).record(seconds);
}

/// Clients may make up methods; a label must not grow with them.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
