//! One HTTP/1.1 connection, from the first byte to a graceful close.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, header};
use axum::middleware::from_fn;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::allow;
use crate::browsers::{self, Origins, Verdict};
use crate::client_stream::ClientStream;
use crate::closing::{LINGER, close, send};
use crate::code::Code;
use crate::deadlines::Deadlines;
use crate::guard::{self, Checked, SharedGuard};
use crate::handshake::{self, Failure};
use crate::open_connections::{Busy, Connection};
use crate::options::ServeOptions;
use crate::problem::{self, Problem};
use crate::request_log::{self, refuse_head};
use crate::server_tls::ServerTls;
use crate::shortcut::{BodyWasRead, Counted, Shortcut};
use crate::transport::{Socket, Transport};

/// The maximum number of bytes of a request's head, and of a body that were received and not handed to its handler.
const MAX_BUFFER: usize = 64 << 10;
/// Up to this size a body is usually read together with the head, and hyper keeps the connection whether or not the
/// body is used. Its first buffer has twice as many bytes.
const READ_AT_ONCE: u64 = 4 << 10;
/// How long a connection that is closed to make room for others may take to send the end of a response.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// The TLS, the guard, the shortcut and the router of all connections of a server.
pub(crate) struct Served<S> {
    tls: Option<Arc<ServerTls>>,
    origins: Origins,
    guard: SharedGuard,
    routes: Arc<Routes<S>>,
}

struct Routes<S> {
    router: TowerToHyperService<Router>,
    shortcut: Option<Arc<Counted<S>>>,
    /// `http` or `https`.
    scheme: &'static str,
}

impl<S: Shortcut> Served<S> {
    pub(crate) fn new(router: Router, shortcut: Option<S>, options: &ServeOptions) -> Self {
        let router = TowerToHyperService::new(router.layer(from_fn(request_log::middleware)));
        let ServeOptions { tls, origins, guard, .. } = options.clone();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let routes = Arc::new(Routes { router, shortcut: shortcut.map(Counted::new).map(Arc::new), scheme });
        Self { tls, origins, guard, routes }
    }

    /// Handles a request. Every request to every server passes through this function before the shortcut and the
    /// router, so this is where it is checked whether it comes from a page of another site.
    fn answer(&self, request: hyper::Request<Incoming>, busy: Busy) -> Answer {
        match self.origins.check(&request) {
            Verdict::Handle => self.guarded(request, busy),
            Verdict::HandleFor(origin) => {
                let answering = self.guarded(request, busy);
                Box::pin(async move {
                    let mut response = answering.await?;
                    browsers::open(&mut response, origin);
                    Ok(response)
                })
            }
            // A browser sends it without a token.
            Verdict::Preflight(origin) => {
                let response = request_log::answered(&request, browsers::preflight(origin));
                drop(busy);
                Box::pin(std::future::ready(Ok(response)))
            }
            Verdict::Refuse(problem) => self.routes.answer(request, Checked::refused(problem), busy),
        }
    }

    /// Handles a request that the guard lets pass.
    fn guarded(&self, request: hyper::Request<Incoming>, busy: Busy) -> Answer {
        let Some(guard) = &self.guard else { return self.routes.answer(request, Checked::unguarded(), busy) };
        let request = match guard::check_now(&**guard, request) {
            (request, Some(checked)) => return self.routes.answer(request, checked, busy),
            (request, None) => request,
        };
        let (guard, routes) = (guard.clone(), self.routes.clone());
        Box::pin(async move {
            let (request, checked) = guard::check(&*guard, request).await;
            routes.answer(request, checked, busy).await
        })
    }
}

impl<S: Shortcut> Routes<S> {
    /// The connection is busy until the response is complete. The responses of the shortcut are small and complete at
    /// once; those of the router may be long.
    fn answer(&self, mut request: hyper::Request<Incoming>, checked: Checked, busy: Busy) -> Answer {
        let checked = Checked { scheme: self.scheme, ..checked };
        let is_large = request.body().size_hint().upper().is_none_or(|size| size > READ_AT_ONCE);
        match &self.shortcut {
            Some(shortcut) if shortcut.matches(&request) => {
                let shortcut = shortcut.clone();
                Box::pin(async move {
                    let mut response = shortcut.answer(request, checked).await;
                    announce_close(&mut response, is_large);
                    drop(busy);
                    Ok(response)
                })
            }
            _ => {
                request.extensions_mut().insert(checked);
                let answering = self.router.call(request);
                Box::pin(async move {
                    let mut response = answering.await?.map(|body| Body::new(BusyBody { body, _busy: busy }));
                    allow::complete(&mut response);
                    announce_close(&mut response, is_large);
                    Ok(response)
                })
            }
        }
    }
}

/// Tells the client that the connection ends after a refusal of a request whose body was not read. Hyper closes it then
/// without a word, and a client that sent the next request on it would get no answer.
fn announce_close(response: &mut Response, is_large: bool) {
    let is_refusal = response.status().is_client_error() || response.status().is_server_error();
    if is_large && is_refusal && response.extensions().get::<BodyWasRead>().is_none() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A response's body whose connection is busy until the body is complete.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What bounds a connection in time.
pub(crate) struct Bounds {
    pub(crate) deadlines: Deadlines,
    pub(crate) state: Arc<Connection>,
    /// Cancelled when the server begins to shut down.
    pub(crate) shutdown: CancellationToken,
    /// Cancelled, after `shutdown`, when the connection must end at once.
    pub(crate) abort: CancellationToken,
}

impl Bounds {
    /// Closes a connection of which no request is handled.
    async fn close(&self, stream: Transport) {
        let makes_room = self.state.closing.is_cancelled() && !self.shutdown.is_cancelled();
        let timeout = if makes_room { CLOSING_TIMEOUT } else { LINGER };
        tokio::select! {
            () = self.abort.cancelled() => {}
            _ = tokio::time::timeout(timeout, close(stream)) => {}
        }
    }
}

/// Serves one connection until either side closes it. Once `shutdown` is cancelled, or the connection is closed to make
/// room for others, it ends after the request in flight; once `abort` is cancelled too, it ends at once.
pub(crate) async fn serve<S: Shortcut>(stream: TcpStream, served: Arc<Served<S>>, bounds: Bounds) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    // hyper allocates its buffers when it is given a connection. A connection that has sent nothing gets none, and only
    // the small future of this function stays in memory: there may be thousands of them.
    let mut first = [0];
    let begun = tokio::select! {
        biased;
        peeked = tokio::time::timeout(bounds.deadlines.headers, stream.peek(&mut first)) => matches!(peeked, Ok(Ok(1))),
        () = bounds.state.closing.cancelled() => false,
    };
    let socket = Socket::new(stream, bounds.state.clone());
    if !begun {
        bounds.close(Transport::Plain(socket)).await;
        return;
    }
    match served.tls.clone() {
        None => Box::pin(serve_requests(Transport::Plain(socket), served, bounds)).await,
        Some(tls) => Box::pin(serve_tls(socket, first, tls, served, bounds)).await,
    }
}

/// Serves a client of a server that speaks TLS. Until it has sent a part of a request it has no more buffers than its
/// handshake needs, and afterwards none but the state of its TLS connection.
async fn serve_tls<S: Shortcut>(
    socket: Socket,
    [first]: [u8; 1],
    tls: Arc<ServerTls>,
    served: Arc<Served<S>>,
    bounds: Bounds,
) {
    let accepted = tokio::select! {
        biased;
        accepted = Box::pin(handshake::accept(socket, first, &tls, bounds.deadlines.headers)) => accepted,
        () = bounds.state.closing.cancelled() => return,
    };
    drop(tls);
    let mut stream = match accepted {
        Ok(stream) => stream,
        Err((failure, socket)) => {
            let Some(mut stream) = socket.map(Transport::Plain) else { return };
            if failure == Failure::Plain(true) {
                let plain = Problem::new(Code::BadRequest, "this port speaks TLS: use https://");
                send(&mut stream, refuse_head(plain)).await;
            }
            bounds.close(stream).await;
            return;
        }
    };
    let begun = tokio::select! {
        biased;
        begun = handshake::has_sent(&mut stream, bounds.deadlines.headers) => begun,
        () = bounds.state.closing.cancelled() => false,
    };
    if begun {
        Box::pin(serve_requests(stream, served, bounds)).await;
    } else {
        bounds.close(stream).await;
    }
}

/// Serves a connection whose first bytes have arrived.
async fn serve_requests<S: Shortcut>(
    stream: Transport,
    served: Arc<Served<S>>,
    Bounds { deadlines, state, shutdown, abort }: Bounds,
) {
    let service = {
        let state = state.clone();
        service_fn(move |request| served.answer(request, state.busy()))
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(deadlines.headers).max_buf_size(MAX_BUFFER);
    let stream = ClientStream::new(stream, deadlines.write);
    let mut connection = http.serve_connection(TokioIo::new(stream), service);

    let ended = tokio::select! {
        biased;
        ended = done(&mut connection) => Some(ended),
        () = state.closing.cancelled() => None,
    };
    // `abort` is never cancelled before `shutdown` is, so the first select need not poll it at every read and
    // write. The future is boxed, so that a connection needs no memory for it while it is served.
    let makes_room = ended.is_none() && !shutdown.is_cancelled();
    let ending = Box::pin(async move {
        if makes_room {
            // Others wait for its place: what it has not received by then is lost.
            let _ = tokio::time::timeout(CLOSING_TIMEOUT, end(connection, ended, &state)).await;
        } else {
            end(connection, ended, &state).await;
        }
    });
    tokio::select! {
        () = abort.cancelled() => {}
        () = ending => {}
    }
}

/// Ends a connection gracefully: finishes the request in flight, if `ended` is `None`, and closes it.
async fn end<S>(
    mut connection: http1::Connection<TokioIo<ClientStream>, S>,
    ended: Option<hyper::Result<()>>,
    state: &Connection,
) where
    S: HttpService<Incoming, ResBody = axum::body::Body> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Unpin,
{
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            done(&mut connection).await
        }
    };
    // hyper's buffers are not kept while the client is sent a refusal and its socket is closed.
    let (io, received) = {
        let parts = connection.into_parts();
        (parts.io, !parts.read_buf.is_empty())
    };
    state.forget_head();
    let (mut stream, refused) = io.into_inner().into_inner();
    if let Some(status) = refused {
        send(&mut stream, refuse_head(problem::of_head(status))).await;
    }
    if let Err(error) = &ended {
        tracing::debug!(%error, "a connection ended early");
        if error.is_timeout() && received {
            let late = Problem::new(Code::HeaderTimeout, "the request's headers did not arrive in time");
            send(&mut stream, refuse_head(late)).await;
        }
    }
    close(stream).await;
}

/// Serves until the connection has ended, without closing its socket.
async fn done<S>(connection: &mut http1::Connection<TokioIo<ClientStream>, S>) -> hyper::Result<()>
where
    S: HttpService<Incoming, ResBody = axum::body::Body> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Unpin,
{
    poll_fn(|context| connection.poll_without_shutdown(context)).await
}
