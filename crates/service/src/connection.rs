//! One HTTP/1.1 connection, from the first byte to a graceful close.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::middleware::from_fn;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::client_stream::ClientStream;
use crate::code::Code;
use crate::deadlines::Deadlines;
use crate::guard::{self, SharedGuard};
use crate::open_connections::{Busy, Connection};
use crate::problem::{self, Problem};
use crate::request_log::{self, refuse_head};
use crate::shortcut::{Counted, Shortcut};

/// The maximum number of bytes of a request's head, and of a body that were received and not handed to its handler.
const MAX_BUFFER: usize = 64 << 10;
/// How long a connection that is closed to make room for others may take to send the end of a response.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection that is being closed continues to read, and to discard, what the client sends.
const LINGER: Duration = Duration::from_secs(2);

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// The guard, the shortcut and the router, which handle the requests of all connections of a server.
pub(crate) struct Served<S> {
    guard: SharedGuard,
    routes: Arc<Routes<S>>,
}

struct Routes<S> {
    router: TowerToHyperService<Router>,
    shortcut: Option<Arc<Counted<S>>>,
}

impl<S: Shortcut> Served<S> {
    pub(crate) fn new(router: Router, shortcut: Option<S>, guard: SharedGuard) -> Self {
        let router = TowerToHyperService::new(router.layer(from_fn(request_log::middleware)));
        Self { guard, routes: Arc::new(Routes { router, shortcut: shortcut.map(Counted::new).map(Arc::new) }) }
    }

    /// Handles a request. Every request to every server passes through this function before the shortcut and the
    /// router, so this is where the guard checks it.
    fn answer(&self, request: hyper::Request<Incoming>, busy: Busy) -> Answer {
        let Some(guard) = self.guard.clone() else { return self.routes.answer(request, busy) };
        let routes = self.routes.clone();
        Box::pin(async move {
            let request = guard::check(&*guard, request).await;
            routes.answer(request, busy).await
        })
    }
}

impl<S: Shortcut> Routes<S> {
    /// The connection is busy until the response is complete. The responses of the shortcut are small and complete at
    /// once; those of the router may be long.
    fn answer(&self, request: hyper::Request<Incoming>, busy: Busy) -> Answer {
        match &self.shortcut {
            Some(shortcut) if shortcut.matches(&request) => {
                let shortcut = shortcut.clone();
                Box::pin(async move {
                    let response = shortcut.answer(request).await;
                    drop(busy);
                    Ok(response)
                })
            }
            _ => {
                let answering = self.router.call(request);
                Box::pin(async move { Ok(answering.await?.map(|body| Body::new(BusyBody { body, _busy: busy }))) })
            }
        }
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

/// Serves one connection until either side closes it. Once `shutdown` is cancelled, or the connection is closed to make
/// room for others, it ends after the request in flight; once `abort` is cancelled too, it ends at once.
pub(crate) async fn serve<S: Shortcut>(
    stream: TcpStream,
    served: Arc<Served<S>>,
    deadlines: Deadlines,
    state: Arc<Connection>,
    shutdown: CancellationToken,
    abort: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    // hyper allocates its buffers when it is given a connection. A connection that has sent nothing gets none, and only
    // the small future of this function stays in memory: there may be thousands of them.
    let mut first = [0];
    let begun = tokio::select! {
        biased;
        peeked = tokio::time::timeout(deadlines.headers, stream.peek(&mut first)) => matches!(peeked, Ok(Ok(1))),
        () = state.closing.cancelled() => false,
    };
    if begun {
        Box::pin(serve_requests(stream, served, deadlines, state, shutdown, abort)).await;
    } else {
        let timeout = if state.closing.is_cancelled() && !shutdown.is_cancelled() { CLOSING_TIMEOUT } else { LINGER };
        tokio::select! {
            () = abort.cancelled() => {}
            _ = tokio::time::timeout(timeout, close(stream)) => {}
        }
    }
}

/// Serves a connection whose first bytes have arrived.
async fn serve_requests<S: Shortcut>(
    stream: TcpStream,
    served: Arc<Served<S>>,
    deadlines: Deadlines,
    state: Arc<Connection>,
    shutdown: CancellationToken,
    abort: CancellationToken,
) {
    let service = {
        let state = state.clone();
        service_fn(move |request| served.answer(request, state.busy()))
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(deadlines.headers).max_buf_size(MAX_BUFFER);
    let stream = ClientStream::new(stream, deadlines.write, state.clone());
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

/// Sends a response past hyper, which closes a connection without a response when the headers do not arrive in time,
/// and with one that has no body when it refuses them.
async fn send(stream: &mut TcpStream, response: Response) {
    let (parts, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 4_096).await else { return };
    let mut bytes = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    let written = tokio::time::timeout(LINGER, stream.write_all(&bytes)).await;
    if let Ok(Err(error)) | Err(error) = written.map_err(std::io::Error::from) {
        tracing::debug!(%error, "cannot send a refusal");
    }
}

/// Closes the sending side first and continues to read for up to [`LINGER`]. Closing a socket with unread bytes
/// resets the connection, and a client that is still sending its body would lose the response (413).
async fn close(mut stream: TcpStream) {
    let lingering = async {
        stream.shutdown().await?;
        loop {
            stream.readable().await?;
            if discard(&stream)? {
                return Ok::<_, std::io::Error>(());
            }
        }
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, lingering).await {
        tracing::trace!(%error, "closing a connection");
    }
}

/// Reads what has arrived; returns whether it was the end. The buffer is on the stack, and not in a future that waits.
fn discard(stream: &TcpStream) -> std::io::Result<bool> {
    let mut discarded = [0; 8_192];
    match stream.try_read(&mut discarded) {
        Ok(read) => Ok(read == 0),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
