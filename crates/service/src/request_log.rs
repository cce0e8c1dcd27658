//! Gives each request its id and its span, logs it, and counts it in the metrics.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use sluice_event::{RequestId, TraceContext};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span};

use crate::allow;
use crate::code::Code;
use crate::guard::{Checked, Identity};
use crate::log_limit::LogLimit;
use crate::problem::{self, Logged, Problem};
use crate::trace::{Answered, ServerSpan, Traceparent, hex_of};

/// The header with the request's id, in requests and responses.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Refusals and failures, of which any client can cause any number.
static REFUSED: LogLimit = LogLimit::per_second(20);
static FAILED: LogLimit = LogLimit::per_second(20);
/// The maximum number of characters of a path in the log.
const MAX_PATH: usize = 256;

/// Gives the request its id and its span, returns the guard's refusal instead of calling the handler when
/// there is one, turns a panic or an error without a body into a problem, answers `OPTIONS` ([`allow`]), logs the outcome (refusals at info
/// with their code, server errors at warn, each at a bounded rate, the rest at debug), counts it, and sets the
/// id in the response's header. [`server::run`](crate::server::run) applies it to every request.
pub async fn middleware(mut request: Request, next: Next) -> Response {
    let checked = request.extensions_mut().remove::<Checked>().unwrap_or_else(Checked::unguarded);
    let (in_flight, refusal) = RequestInFlight::start(&request, checked);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = in_flight.span(request.uri().path());
    in_flight.log_foreign_id(&span, &request);
    request.extensions_mut().insert(in_flight.id);
    in_flight.pass_trace_on(&mut request);
    if let Some(sender) = &in_flight.sender {
        request.extensions_mut().insert(sender.clone());
    }

    let answer = match refusal {
        None if request.uri().path() == allow::SERVER && *request.method() == Method::OPTIONS => {
            Ok(allow::no_content())
        }
        None => AssertUnwindSafe(next.run(request).instrument(span.clone())).catch_unwind().await,
        Some(problem) => Ok(problem.into_response()),
    };
    let answer = answer.map(|response| allow::to_options(in_flight.method, response));
    let (response, seconds) = in_flight.finish(answer, || span);
    in_flight.end_trace(route.as_deref(), response.status());
    count(in_flight.method, route.unwrap_or_else(|| "other".to_owned()), response.status(), seconds);
    response
}

/// A request in flight.
pub(crate) struct RequestInFlight {
    started: Instant,
    pub(crate) id: RequestId,
    pub(crate) method: &'static str,
    /// `http` or `https`.
    scheme: &'static str,
    /// Who sent it, if that is known.
    pub(crate) sender: Option<Arc<dyn Identity>>,
    /// The trace of the client, or the one that begins here. Log lines have it also if nothing is recorded.
    trace: Option<TraceContext>,
    /// Its span, if it is traced.
    span: Option<ServerSpan>,
}

impl RequestInFlight {
    /// Records a request's start and its id. Also returns the guard's refusal, if there is one: it is then
    /// the response.
    pub(crate) fn start<B>(request: &Request<B>, checked: Checked) -> (Self, Option<Problem>) {
        let Checked { started, refusal, sender, scheme } = checked;
        let id = id_header(request).and_then(RequestId::parse).unwrap_or_else(RequestId::random);
        let parent = Traceparent::of(request.headers());
        let span = ServerSpan::begin(parent.as_ref(), request.uri().path(), started);
        let trace = span.as_ref().map(ServerSpan::context).or(parent.map(|parent| parent.context));
        (Self { started, id, method: method_label(request.method()), scheme, sender, trace, span }, refusal)
    }

    /// Gives the handler the trace of the request, if it is traced, as a `TraceContext` in the extensions.
    pub(crate) fn pass_trace_on<B>(&self, request: &mut Request<B>) {
        if let Some(span) = &self.span {
            request.extensions_mut().insert(span.context());
        }
    }

    /// Records the span of the request, if it is traced. `route` is `None` if no route handles it.
    pub(crate) fn end_trace(&self, route: Option<&str>, status: StatusCode) {
        if let Some(span) = &self.span {
            span.end(&Answered { id: self.id, scheme: self.scheme, method: self.method, route, status });
        }
    }

    /// Returns the span whose fields are in each log line about this request.
    pub(crate) fn span(&self, path: &str) -> Span {
        let end = path.char_indices().nth(MAX_PATH).map_or(path.len(), |(end, _)| end);
        let path = path.get(..end).unwrap_or_default();
        let subject = self.sender.as_ref().map(|sender| sender.name());
        let trace_id = self.trace.map(hex_of);
        tracing::info_span!("request", id = %self.id, method = self.method, path, subject, trace_id)
    }

    /// Logs the client's `X-Request-Id` if it is not a UUID, together with the id that replaces it, so that the
    /// client's operator can find the request. Logs at most 128 characters, because a client may send a long text.
    pub(crate) fn log_foreign_id<B>(&self, span: &Span, request: &Request<B>) {
        if let Some(given) = id_header(request).filter(|text| RequestId::parse(text).is_none()) {
            let given: String = given.chars().take(128).collect();
            span.in_scope(|| tracing::debug!(given, "the client's X-Request-Id is not a UUID"));
        }
    }

    /// Logs the response and returns it as it is sent to the client, with the request's duration in seconds.
    /// `span` is called only when something is logged.
    pub(crate) fn finish(
        &self,
        answer: Result<Response, Box<dyn Any + Send>>,
        span: impl FnOnce() -> Span,
    ) -> (Response, f64) {
        let mut response =
            answer.unwrap_or_else(|_| Problem::new(Code::Internal, "the handler panicked").into_response());
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

/// Logs and counts a response to a request that no route handles, and returns it.
pub(crate) fn answered<B>(request: &Request<B>, response: Response) -> Response {
    let (in_flight, _) = RequestInFlight::start(request, Checked::unguarded());
    let (response, seconds) = in_flight.finish(Ok(response), || in_flight.span(request.uri().path()));
    count(in_flight.method, "other".to_owned(), response.status(), seconds);
    response
}

/// Returns the response to a request whose head hyper refuses or never receives, and logs and counts it like all
/// others.
pub(crate) fn refuse_head(problem: Problem) -> Response {
    let in_flight = RequestInFlight {
        started: Instant::now(),
        id: RequestId::random(),
        method: "OTHER",
        scheme: "http",
        sender: None,
        trace: None,
        span: None,
    };
    let (response, seconds) = in_flight.finish(Ok(problem.into_response()), || in_flight.span(""));
    count(in_flight.method, "other".to_owned(), response.status(), seconds);
    response
}

fn id_header<B>(request: &Request<B>) -> Option<&str> {
    request.headers().get(HEADER).and_then(|value| value.to_str().ok())
}

/// Returns whether this is an error without a body, as the router itself returns (404, 405).
fn is_bare_error(response: &Response) -> bool {
    let status = response.status();
    (status.is_client_error() || status.is_server_error()) && !response.headers().contains_key(header::CONTENT_TYPE)
}

fn log(response: &Response, seconds: f64, span: impl FnOnce() -> Span) {
    let status = response.status().as_u16();
    match response.extensions().get::<Logged>() {
        Some(Logged { code, detail }) if status >= 500 => {
            let Some(left_out) = FAILED.allow() else { return };
            let code = code.as_str();
            span().in_scope(|| tracing::warn!(status, code, detail, seconds, left_out, "request failed"));
        }
        Some(Logged { code, detail }) => {
            let Some(left_out) = REFUSED.allow() else { return };
            let code = code.as_str();
            span().in_scope(|| tracing::info!(status, code, detail, seconds, left_out, "request refused"));
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

/// Returns the method as a metric's label. Clients may send any method, and the number of a label's values
/// must be bounded.
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
