//! Opens the connections to the aggregators.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use hyper::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
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

    async fn connect(mut self, uri: Uri) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError> {
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
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
