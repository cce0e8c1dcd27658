//! Opens the connections to the collector.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use sluice_service::client_tls::ClientTls;
use sluice_service::log_limit::LogLimit;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::{BoxError, Service};

/// The time limit of a connection with its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines about connections that could not be opened.
static FAILED: LogLimit = LogLimit::per_second(1);

/// A connection to the collector.
pub(crate) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Connects to the collector, with TLS if its URL begins with `https://`. The files of TLS are read at each connection, so
/// that they can be replaced.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    tls: Arc<ClientTls>,
    /// The protocol that the server is asked to speak (ALPN).
    protocol: &'static [u8],
}

impl Connector {
    /// Returns a connector for `h2` or `http/1.1`.
    pub(crate) fn new(tls: Arc<ClientTls>, protocol: &'static [u8]) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { tcp, tls, protocol }
    }

    async fn connect(self, uri: Uri) -> Result<Stream, BoxError> {
        let Self { mut tcp, tls, protocol } = self;
        let connecting = async {
            if uri.scheme_str() != Some("https") {
                return Ok(MaybeHttpsStream::Http(tcp.call(uri).await?));
            }
            let mut config = tls.config()?;
            config.alpn_protocols = vec![protocol.to_vec()];
            let connected = HttpsConnector::from((tcp, config)).call(uri).await;
            connected.map_err(|error| tls.explain(&*error).map_or(error, BoxError::from))
        };
        timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| "the collector cannot be connected to in time")?
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async move {
            let connected = connecting.await;
            // What sends the spans says only that it could not.
            if let (Err(error), Some(left_out)) = (&connected, FAILED.allow()) {
                let reason = reason(&**error);
                tracing::warn!(reason, left_out, "cannot connect to the collector");
            }
            connected
        })
    }
}

/// Returns an error with all of its causes.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
