//! One HTTP/1.1 connection, from the first byte to an orderly close.

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

use crate::deadlines::Deadlines;
use crate::problem::{MEDIA_TYPE, Problem};
use crate::request_log;
use crate::shortcut::{Counted, Shortcut};
use crate::stall::StallGuard;

/// How long a closed connection still reads and discards what the client sends.
const LINGER: Duration = Duration::from_secs(2);

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// What answers the requests of all connections.
pub(crate) struct Served<S> {
    router: TowerToHyperService<Router>,
    shortcut: Option<Arc<Counted<S>>>,
}

impl<S: Shortcut> Served<S> {
    pub(crate) fn new(router: Router, shortcut: Option<S>) -> Self {
        let router = TowerToHyperService::new(router.layer(from_fn(request_log::middleware)));
        Self { router, shortcut: shortcut.map(Counted::new).map(Arc::new) }
    }

    fn answer(&self, request: hyper::Request<Incoming>) -> Answer {
        match &self.shortcut {
            Some(shortcut) if shortcut.takes(&request) => {
                let shortcut = shortcut.clone();
                Box::pin(async move { Ok(shortcut.answer(request).await) })
            }
            _ => Box::pin(self.router.call(request)),
        }
    }
}

/// Serves one connection until either side closes it, or until the request in hand is answered
/// once `shutdown` is cancelled; from then on it ends at once when `cut` is.
pub(crate) async fn serve<S: Shortcut>(
    stream: TcpStream,
    served: Arc<Served<S>>,
    deadlines: Deadlines,
    shutdown: CancellationToken,
    cut: CancellationToken,
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
    // Nothing is cut before the shutdown: until here one thing less is looked at whenever a request or
    // an answer moves. Boxed, so that a connection that is being served takes no memory for its end.
    let ending = Box::pin(end(connection, ended));
    tokio::select! {
        () = cut.cancelled() => {}
        () = ending => {}
    }
}

/// The rest of a connection that has ended, or that ends with the request in hand.
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
            say_too_slow(&mut stream).await;
        }
    }
    close(stream).await;
}

async fn done<S>(connection: &mut http1::Connection<TokioIo<StallGuard>, S>) -> hyper::Result<()>
where
    S: HttpService<Incoming, ResBody = axum::body::Body> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Unpin,
{
    poll_fn(|context| connection.poll_without_shutdown(context)).await
}

/// hyper only hangs up on a client whose headers never end; this says why.
async fn say_too_slow(stream: &mut TcpStream) {
    let problem = Problem::new(
        hyper::StatusCode::REQUEST_TIMEOUT,
        "header_timeout",
        "the request's headers did not arrive in time",
    );
    let body = problem.clone().into_response();
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
        tracing::debug!(%error, "cannot answer a slow client");
    }
}

/// Closes our direction first and reads on for a moment: closing a socket with unread bytes in it
/// resets the connection, and a client still sending its body would lose the answer (413).
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
