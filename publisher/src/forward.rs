//! What the publisher does not answer itself goes to the aggregators.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sluice_event::RequestId;
use sluice_service::problem::Problem;
use sluice_service::request_log;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// Requests forwarded at the same time, to the end of their answers.
const MAX_FORWARDED: usize = 512;
const CONNECT: Duration = Duration::from_secs(2);
/// Until the answer begins; the request's own body included.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// Below the time after which our own server closes an idle connection.
const IDLE: Duration = Duration::from_secs(15);

/// Headers of one connection, which do not travel on.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[derive(Clone)]
struct Forwarder {
    client: Client<HttpConnector, Body>,
    base: Uri,
    room: Arc<Semaphore>,
}

/// A service that forwards every request to the server at `base` (`http://HOST:PORT/PREFIX`).
pub(crate) fn router(base: &Uri) -> Router {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    let client =
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(connector);
    let forwarder = Forwarder { client, base: base.clone(), room: Arc::new(Semaphore::new(MAX_FORWARDED)) };
    Router::new().fallback(forward).with_state(forwarder)
}

async fn forward(State(forwarder): State<Forwarder>, request: Request) -> Response {
    forwarder.forward(request).await.unwrap_or_else(IntoResponse::into_response)
}

impl Forwarder {
    async fn forward(&self, mut request: Request) -> Result<Response, Problem> {
        let permit =
            self.room.clone().try_acquire_owned().map_err(|_| unavailable("too many requests are forwarded"))?;
        *request.uri_mut() = self.target(request.uri())?;
        let id = request.extensions().get::<RequestId>().copied();
        let headers = request.headers_mut();
        strip(headers);
        headers.remove(header::HOST);
        if let Some(value) = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
            headers.insert(request_log::HEADER, value);
        }
        let answer = timeout(ANSWER, self.client.request(request)).await;
        let mut response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(unavailable(&causes(&error))),
            Err(_) => return Err(unavailable("no answer in time")),
        };
        strip(response.headers_mut());
        Ok(response.map(|body| Body::new(Relay { body, silence: Box::pin(sleep(SILENCE)), _permit: permit })))
    }

    /// The same path and query at the other server, byte for byte.
    fn target(&self, uri: &Uri) -> Result<Uri, Problem> {
        let path =
            format!("{}{}", self.base.path().trim_end_matches('/'), uri.path_and_query().map_or("/", |p| p.as_str()));
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(path).ok();
        Uri::from_parts(parts)
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the path is malformed"))
    }
}

/// Removes what belongs to one connection, also what its `Connection` header names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn unavailable(cause: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "query_unavailable", cause)
        .say("the aggregators do not answer; publishing goes on")
        .retry_after(Duration::from_secs(1))
}

fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(error.source(), |cause| cause.source());
    chain.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The body of a forwarded answer: ended when nothing comes for too long.
struct Relay {
    body: Incoming,
    silence: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Relay {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.silence.as_mut().reset(Instant::now() + SILENCE);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.silence.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the answer stopped coming".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
