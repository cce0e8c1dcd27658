//! A request's id, its span, its line in the log and its metrics.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use crate::problem::{self, Logged, Problem};

/// The header that carries the id, in requests and answers.
pub const HEADER: &str = "x-request-id";

/// The id of a request, as an extension of it: the client's `X-Request-Id` when that is a UUID,
/// else a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub Uuid);

/// Gives the request its id and its span, turns a panic or an empty error into a problem, logs
/// the outcome (errors at info with their code, server errors at warn, the rest at debug), counts
/// it, and echoes the id. [`server::run`](crate::server::run) applies it to every request.
pub async fn middleware(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let given = request.headers().get(HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let id = given.as_deref().and_then(|text| Uuid::try_parse(text).ok()).unwrap_or_else(Uuid::new_v4);
    let path = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = method_label(request.method());
    let span = tracing::info_span!("request", id = %id, method, path = request.uri().path());
    if let Some(given) = given.filter(|text| Uuid::try_parse(text).is_err()) {
        // Beside ours, so that a client's own identifier finds its request; bounded, it is foreign.
        let given: String = given.chars().take(128).collect();
        span.in_scope(|| tracing::debug!(given, "the client's X-Request-Id is no UUID"));
    }
    request.extensions_mut().insert(RequestId(id));

    let answer = AssertUnwindSafe(next.run(request).instrument(span.clone())).catch_unwind().await;
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
    let seconds = started.elapsed().as_secs_f64();
    span.in_scope(|| log(&response, seconds));
    count(method, path, response.status(), seconds);
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

/// What a router answers by itself: 404 and 405 without a word.
fn is_bare_error(response: &Response) -> bool {
    let status = response.status();
    (status.is_client_error() || status.is_server_error()) && !response.headers().contains_key(header::CONTENT_TYPE)
}

fn log(response: &Response, seconds: f64) {
    let status = response.status().as_u16();
    match response.extensions().get::<Logged>() {
        Some(Logged { code, detail }) if status >= 500 => {
            tracing::warn!(status, code, detail, seconds, "request failed");
        }
        Some(Logged { code, detail }) => tracing::info!(status, code, detail, seconds, "request refused"),
        None => tracing::debug!(status, seconds, "request answered"),
    }
}

fn count(method: &'static str, path: String, status: StatusCode, seconds: f64) {
    let status = status.as_u16().to_string();
    metrics::counter!("sluice_http_requests_total", "method" => method, "path" => path.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("sluice_http_request_seconds", "path" => path).record(seconds);
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
