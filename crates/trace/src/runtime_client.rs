//! The client that sends spans over HTTP.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use sluice_service::client_tls::ClientTls;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::connector::Connector;

/// The maximum number of bytes of a response: the collector says how many spans it refused, and why.
const MAX_RESPONSE: usize = 64 << 10;

/// A client that works on the runtime of the program, whatever thread it is called from: spans are sent by a thread of their
/// own, which has no runtime.
#[derive(Debug)]
pub(crate) struct RuntimeClient {
    client: Client<Connector, Full<Bytes>>,
    runtime: Handle,
    timeout: Duration,
}

impl RuntimeClient {
    /// Returns a client on the present runtime, with a limit on the time of a request.
    pub(crate) fn new(tls: Arc<ClientTls>, timeout: Duration) -> Self {
        let client = Client::builder(TokioExecutor::new()).build(Connector::new(tls, b"http/1.1"));
        Self { client, runtime: Handle::current(), timeout }
    }
}

#[async_trait]
impl HttpClient for RuntimeClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, limit) = (self.client.clone(), self.timeout);
        let sending = async move {
            let response = client.request(request.map(Full::new)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_RESPONSE).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        // A timer can be made on the runtime only.
        let sent = self.runtime.spawn(async move { timeout(limit, sending).await }).await?;
        sent.map_err(|_| HttpError::from("no answer in time"))?
    }
}
