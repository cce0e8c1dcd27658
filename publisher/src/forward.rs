//! Forwards requests that the publisher does not answer itself to the aggregators.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::uri::{InvalidUriParts, PathAndQuery};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sluice_event::{RequestId, TraceContext};
use sluice_service::browsers::ORIGIN_HEADERS;
use sluice_service::client_tls::{ClientTls, IDLE_TIMEOUT};
use sluice_service::problem::Problem;
use sluice_service::request_log;
use sluice_service::trace::{TRACEPARENT, Traceparent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::connector::{self, Connector};
use crate::error_chain::error_chain;
use crate::problems::{malformed_path, query_unavailable};

/// The maximum number of requests that are forwarded at the same time, each until the end of its response.
const MAX_FORWARDED: usize = 512;
/// The time limit from the start of the request, its body included, until the response begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit between two pieces of a response.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The path of streams of events, which last for minutes.
const STREAM_PATH: &str = "/events/tail";
/// The maximum number of streams that are forwarded at the same time, beside the requests.
const MAX_STREAMS: usize = 256;
/// The longest that a stream is forwarded. An aggregator ends it before.
const STREAM_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// The buffer of a connection to an aggregator: what a response takes here whose client reads nothing.
const MAX_BUFFER: usize = 64 << 10;

/// Headers that belong to one connection and are not forwarded (RFC 9110, section 7.6.1).
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

/// The client of the aggregators. Clones share its connections.
pub(crate) type Aggregators = Client<Connector, Body>;

#[derive(Clone)]
struct Forwarder {
    client: Aggregators,
    tls: Arc<ClientTls>,
    base: Uri,
    permits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Ends streams.
    shutdown: CancellationToken,
}

/// Returns a client of the aggregators.
pub(crate) fn client(tls: &Arc<ClientTls>) -> Aggregators {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_buf_size(MAX_BUFFER)
        .build(Connector::new(tls.clone()))
}

/// Returns the URI of a path, with its query, at the server at `base`, byte for byte.
pub(crate) fn at(base: &Uri, path_and_query: &str) -> Result<Uri, InvalidUriParts> {
    let path = format!("{}{path_and_query}", base.path().trim_end_matches('/'));
    let mut parts = base.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(path).ok();
    Uri::from_parts(parts)
}

/// Returns a service that forwards every request to the server at `base` (`http://HOST:PORT/PREFIX`, or `https`). Streams
/// end when `shutdown` is cancelled, and everything else at its end.
pub(crate) fn router(base: &Uri, client: Aggregators, tls: Arc<ClientTls>, shutdown: CancellationToken) -> Router {
    let permits = |requests| Arc::new(Semaphore::new(requests));
    let (permits, streams) = (permits(MAX_FORWARDED), permits(MAX_STREAMS));
    let forwarder = Forwarder { client, tls, base: base.clone(), permits, streams, shutdown };
    Router::new().fallback(forward).with_state(forwarder)
}

async fn forward(State(forwarder): State<Forwarder>, request: Request) -> Response {
    forwarder.forward(request).await.unwrap_or_else(IntoResponse::into_response)
}

impl Forwarder {
    async fn forward(&self, mut request: Request) -> Result<Response, Problem> {
        let is_stream = request.uri().path() == STREAM_PATH;
        let (permits, full) = match is_stream {
            true => (&self.streams, "too many streams are forwarded"),
            false => (&self.permits, "too many requests are forwarded"),
        };
        let permit = permits.clone().try_acquire_owned().map_err(|_| query_unavailable(full))?;
        *request.uri_mut() = self.target(request.uri())?;
        let is_head = *request.method() == Method::HEAD;
        let id = request.extensions().get::<RequestId>().copied();
        let trace = request.extensions().get::<TraceContext>().copied();
        let headers = request.headers_mut();
        strip(headers);
        headers.remove(header::HOST);
        // They are checked, and the aggregators have another host, which is not the origin of a page.
        for name in ORIGIN_HEADERS {
            headers.remove(name);
        }
        if let Some(value) = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
            headers.insert(request_log::HEADER, value);
        }
        // The aggregator's span becomes a child of that of this request. A trace that is not recorded here passes unchanged.
        if let Some(value) = trace.and_then(|context| Traceparent { context, is_sampled: true }.header()) {
            headers.insert(TRACEPARENT, value);
        }
        let answer = timeout(ANSWER_TIMEOUT, self.client.request(request)).await;
        let mut response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let reason = connector::reason(&error, &self.tls).unwrap_or_else(|| error_chain(&error));
                return Err(query_unavailable(&reason));
            }
            Err(_) => return Err(query_unavailable("no answer in time")),
        };
        strip(response.headers_mut());
        let ended = is_stream.then(|| Box::pin(end_of_stream(self.shutdown.clone())) as Ended);
        let stalled = Box::pin(sleep(STALL_TIMEOUT));
        Ok(response.map(|body| Body::new(Relay { body, is_head, stalled, ended, _permit: permit })))
    }

    /// Returns the same path and query at the other server.
    fn target(&self, uri: &Uri) -> Result<Uri, Problem> {
        at(&self.base, uri.path_and_query().map_or("/", PathAndQuery::as_str)).map_err(|_| malformed_path())
    }
}

/// Removes the headers that belong to one connection, also those that its `Connection` header names.
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

type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits until a stream is to end.
async fn end_of_stream(shutdown: CancellationToken) {
    let _ = timeout(STREAM_TIMEOUT, shutdown.cancelled_owned()).await;
}

/// The body of a forwarded response. It fails if no data arrives within the time limit: streams send something more often.
struct Relay {
    body: Incoming,
    /// Whether this is the response to HEAD: its body is empty, and the length of that is not the one of the answer to GET.
    is_head: bool,
    stalled: Pin<Box<Sleep>>,
    /// Is done when a stream is to end, in an orderly way.
    ended: Option<Ended>,
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
            self.stalled.as_mut().reset(Instant::now() + STALL_TIMEOUT);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.ended.as_mut().is_some_and(|ended| ended.as_mut().poll(context).is_ready()) {
            return Poll::Ready(None);
        }
        match self.stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the answer stopped coming".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_head { SizeHint::default() } else { self.body.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use sluice_service::client_tls::{ClientFiles, ClientOptions};
    use sluice_service::options::ServeOptions;
    use sluice_service::server;
    use sluice_service::server_tls::{ServerTls, ServerTlsFiles};
    use sluice_service::tls::Names;
    use sluice_tests::certificates::{Identity, ours};

    use super::*;

    const OPTIONS: ClientOptions = ClientOptions {
        names: Names { server: "the server", url: "--url", ca: "--ca", certificate: "--cert" },
        cert: "--cert",
        key: "--key",
    };
    /// About one in four hundred requests is sent after the connection has ended, and is not told by hyper why it has.
    const REQUESTS: usize = 3_000;
    /// hyper's client rarely lets a request of a connection that could not be used wait for the connection of another
    /// request, which may never come. [`ANSWER_TIMEOUT`] ends such a wait; the test does not wait as long.
    const WAIT: Duration = Duration::from_secs(5);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_request_whose_connection_is_refused_after_the_handshake_is_told_why() {
        sluice_service::tls::install_provider();
        let Identity { cert, key } = ours().server.clone();
        let ca = Some(ours().authority.ca().to_owned());
        let tls = ServerTls::load(ServerTlsFiles { cert, key, client_ca: ca.clone() }).unwrap();
        let listener = server::bind("127.0.0.1:0").await.unwrap();
        let url: Uri = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let options = ServeOptions::new(Duration::from_secs(1)).with_tls(Some(tls));
        tokio::spawn(server::run(listener, Router::new(), CancellationToken::new(), options));

        let tls = Arc::new(ClientTls::new(OPTIONS, ClientFiles { ca, cert: None, key: None }));
        let client = client(&tls);
        let asked =
            futures::stream::iter(0..REQUESTS).map(|_| timeout(WAIT, client.get(url.clone()))).buffer_unordered(4);
        let unexplained: Vec<String> = asked
            .filter_map(|answer| async {
                let error = answer.ok()?.expect_err("the server demands a certificate");
                match connector::reason(&error, &tls) {
                    Some(reason) if reason.contains("demands a certificate of the client") => None,
                    other => Some(format!("{other:?}: {}", error_chain(&error))),
                }
            })
            .collect()
            .await;
        assert_eq!(unexplained, Vec::<String>::new());
    }
}
