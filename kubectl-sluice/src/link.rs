//! Connections to the programs of a resource: through the API server to one of its pods, so that they work from outside
//! of the cluster and with NetworkPolicies, or to a URL.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long the reason of a connection that was closed may take to arrive.
const REASON: Duration = Duration::from_millis(300);

/// TLS to a server, and the name that its certificate must have.
#[derive(Clone)]
pub(crate) struct Tls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

/// A connection.
pub(crate) struct Link {
    pub sender: SendRequest<Full<Bytes>>,
    /// What the node says of a port that cannot be reached.
    reason: Option<BoxFuture<'static, Option<String>>>,
}

impl Link {
    /// Connects to a port of a pod.
    ///
    /// # Errors
    /// If the API server refuses, or TLS cannot be agreed on.
    pub(crate) async fn to_pod(pods: &Api<Pod>, pod: &str, port: u16, tls: Option<&Tls>) -> anyhow::Result<Self> {
        let forwarder = pods.portforward(pod, &[port]).await;
        let mut forwarder = forwarder.with_context(|| format!("no port-forward to pod {pod}"))?;
        let reason = forwarder.take_error(port).map(FutureExt::boxed);
        let Some(stream) = forwarder.take_stream(port) else { bail!("no port-forward to port {port} of pod {pod}") };
        match Self::over(stream, tls).await {
            Ok(sender) => Ok(Self { sender, reason }),
            Err(error) => Err(with_reason(reason, error).await),
        }
    }

    /// Connects to a host.
    ///
    /// # Errors
    /// If it cannot be reached, or TLS cannot be agreed on.
    pub(crate) async fn to_host(host: &str, port: u16, tls: Option<&Tls>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
        let stream = stream.with_context(|| format!("cannot connect to {host}:{port}"))?;
        let _ = stream.set_nodelay(true);
        Ok(Self { sender: Self::over(stream, tls).await?, reason: None })
    }

    async fn over<S>(stream: S, tls: Option<&Tls>) -> anyhow::Result<SendRequest<Full<Bytes>>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match tls {
            None => spoken(stream).await,
            Some(tls) => {
                let connector = TlsConnector::from(tls.config.clone());
                spoken(connector.connect(tls.name.clone(), stream).await?).await
            }
        }
    }

    /// Returns an error with what the node says, if it says something.
    pub(crate) async fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        with_reason(self.reason.take(), error).await
    }
}

async fn spoken<S>(stream: S) -> anyhow::Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends when the sender is dropped or the server closes it; a request in flight then fails.
    tokio::spawn(connection);
    Ok(sender)
}

async fn with_reason(reason: Option<BoxFuture<'static, Option<String>>>, error: anyhow::Error) -> anyhow::Error {
    let Some(reason) = reason else { return error };
    match tokio::time::timeout(REASON, reason).await {
        Ok(Some(reason)) => error.context(reason.trim().to_owned()),
        _ => error,
    }
}
