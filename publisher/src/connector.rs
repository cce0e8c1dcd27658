//! Opens the connections to the aggregators, and keeps why each one failed.
//!
//! In TLS 1.3 a server refuses the certificate of its client after the handshake. If its reason arrives before the request
//! is sent, hyper's client says only that the connection was closed, so the reason is kept beside the connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::http::Extensions;
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use sluice_service::client_tls::ClientTls;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use crate::resolve::BoundedResolver;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit of a connection with its handshake. Without it, an attempt would last for ever at a server that
/// accepts connections and does not answer, since it goes on when its request has been given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Why TLS ended a connection, in words.
#[derive(Clone, Default)]
struct Reason(Arc<OnceLock<String>>);

/// A connection that keeps why TLS ended it.
pub(crate) struct Watched {
    stream: Stream,
    tls: Arc<ClientTls>,
    reason: Reason,
}

/// Returns why TLS ended the connection of a request that failed, in words; `None` if TLS is not the reason.
pub(crate) fn reason(error: &legacy::Error, tls: &ClientTls) -> Option<String> {
    tls.explain(error).or_else(|| {
        let mut kept = Extensions::new();
        error.connect_info()?.get_extras(&mut kept);
        kept.get::<Reason>()?.0.get().cloned()
    })
}

/// Connects to the aggregators, with TLS if their URL begins with `https://`.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector<BoundedResolver>,
    tls: Arc<ClientTls>,
}

impl Connector {
    pub(crate) fn new(tls: Arc<ClientTls>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(BoundedResolver::new());
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        Self { tcp, tls }
    }

    async fn connect(self, uri: Uri) -> Result<Watched, BoxError> {
        let tls = self.tls.clone();
        Ok(Watched { stream: self.open(uri).await?, tls, reason: Reason::default() })
    }

    async fn open(mut self, uri: Uri) -> Result<Stream, BoxError> {
        if uri.scheme_str() != Some("https") {
            return Ok(MaybeHttpsStream::Http(self.tcp.call(uri).await?));
        }
        // The files are read at each connection, so that they can be replaced.
        let mut connector = HttpsConnector::from((self.tcp, self.tls.config()?));
        let connected = timeout(HANDSHAKE_TIMEOUT, connector.call(uri)).await;
        connected.map_err(|_| "the TLS handshake took too long; is the port in --query-url one of TLS?")?
    }
}

impl Service<Uri> for Connector {
    type Response = Watched;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Watched, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.reason.clone())
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        read.map_err(|error| {
            if let Some(reason) = self.tls.explain(&error) {
                let _ = self.reason.0.set(reason);
            }
            error
        })
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
}
