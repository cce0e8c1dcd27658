//! One HTTP/1.1 connection, from the first byte to a graceful close.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::code::Code;
use crate::deadlines::Deadlines;
use crate::guard::{self, SharedGuard};
use crate::problem::{MEDIA_TYPE, Problem};
use crate::request_log;
use crate::shortcut::{Counted, Shortcut};
use crate::stall::StallGuard;

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
    fn answer(&self, request: hyper::Request<Incoming>) -> Answer {
        let Some(guard) = self.guard.clone() else { return self.routes.answer(request) };
        let routes = self.routes.clone();
        Box::pin(async move {
            let request = guard::check(&*guard, request).await;
            routes.answer(request).await
        })
    }
}

impl<S: Shortcut> Routes<S> {
    fn answer(&self, request: hyper::Request<Incoming>) -> Answer {
        match &self.shortcut {
            Some(shortcut) if shortcut.matches(&request) => {
                let shortcut = shortcut.clone();
                Box::pin(async move { Ok(shortcut.answer(request).await) })
            }
            _ => Box::pin(self.router.call(request)),
        }
    }
}

/// Serves one connection until either side closes it. Once `shutdown` is cancelled, the connection
/// ends after the request in flight; once `abort` is cancelled too, it ends at once.
pub(crate) async fn serve<S: Shortcut>(
    stream: TcpStream,
    served: Arc<Served<S>>,
    deadlines: Deadlines,
    shutdown: CancellationToken,
    abort: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request| served.answer(request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(deadlines.headers);
    let mut connection = http.serve_connection(TokioIo::new(StallGuard::new(stream, deadlines.write)), service);

    let ended = tokio::select! {
        biased;
        ended = done(&mut connection) => Some(ended),
        () = shutdown.cancelled() => None,
    };
    // `abort` is never cancelled before `shutdown` is, so the first select need not poll it at every read and
    // write. The future is boxed, so that a connection needs no memory for it while it is served.
    let ending = Box::pin(end(connection, ended));
    tokio::select! {
        () = abort.cancelled() => {}
        () = ending => {}
    }
}

/// Ends a connection gracefully: finishes the request in flight, if `ended` is `None`, and closes it.
async fn end<S>(mut connection: http1::Connection<TokioIo<StallGuard>, S>, ended: Option<hyper::Result<()>>)
where
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
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner().into_inner();
    if let Err(error) = &ended {
        tracing::debug!(%error, "a connection ended early");
        if error.is_timeout() && !parts.read_buf.is_empty() {
            answer_header_timeout(&mut stream).await;
        }
    }
    close(stream).await;
}

/// Serves until the connection has ended, without closing its socket.
async fn done<S>(connection: &mut http1::Connection<TokioIo<StallGuard>, S>) -> hyper::Result<()>
where
    S: HttpService<Incoming, ResBody = axum::body::Body> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Unpin,
{
    poll_fn(|context| connection.poll_without_shutdown(context)).await
}

/// Sends 408 to a client whose headers did not arrive in time, because hyper closes the connection without a
/// response.
async fn answer_header_timeout(stream: &mut TcpStream) {
    let body = Problem::new(Code::HeaderTimeout, "the request's headers did not arrive in time").into_response();
    let Ok(body) = axum::body::to_bytes(body.into_body(), 4_096).await else { return };
    let head = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let written = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await
    };
    if let Ok(Err(error)) | Err(error) = tokio::time::timeout(LINGER, written).await.map_err(std::io::Error::from) {
        tracing::debug!(%error, "cannot send 408 to a slow client");
    }
}

/// Closes the sending side first and continues to read for up to [`LINGER`]. Closing a socket with unread bytes
/// resets the connection, and a client that is still sending its body would lose the response (413).
async fn close(mut stream: TcpStream) {
    let lingering = async {
        stream.shutdown().await?;
        let mut discarded = [0; 8_192];
        while stream.read(&mut discarded).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, lingering).await {
        tracing::trace!(%error, "closing a connection");
    }
}
