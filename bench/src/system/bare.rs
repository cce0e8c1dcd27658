//! The bare server: it reads requests and answers them as the publisher does, and does nothing else. It shows the highest
//! rate of HTTP/1.1 by hyper, on a runtime like the publisher's. It is a process of its own: this program, started with
//! `--bare-server`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sluice_tests::dirs;
use sluice_tests::process::{Process, tail};
use tokio::net::TcpListener;

use crate::load::http::Connection;
use crate::watch::cpu::Watched;

/// How long the server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The publisher's answer to a request of one event.
const ACCEPTED: &[u8] = br#"{"status":"accepted","count":1}"#;
/// What the publisher has random ids for.
const REQUEST_ID: (HeaderName, &str) =
    (HeaderName::from_static("x-request-id"), "00000000-0000-4000-8000-000000000000");

/// Serves until the process is killed.
///
/// # Errors
/// If the address cannot be listened on, or no connection can be accepted.
pub async fn serve(address: &str) -> anyhow::Result<()> {
    accept(TcpListener::bind(address).await.with_context(|| address.to_owned())?).await
}

async fn accept(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
        stream.set_nodelay(true)?;
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        drop(frame?);
    }
    let mut response = Response::new(Full::from(ACCEPTED));
    *response.status_mut() = StatusCode::ACCEPTED;
    let (name, id) = REQUEST_ID;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(name, HeaderValue::from_static(id));
    Ok(response)
}

/// The running process.
#[derive(Debug)]
pub struct BareServer {
    /// Where it listens: `HOST:PORT`.
    pub address: String,
    process: Process,
}

impl BareServer {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// If it ends, or does not answer within 10 seconds; with the end of its log.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_program(&std::env::current_exe()?).await
    }

    async fn start_program(program: &Path) -> anyhow::Result<Self> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let args = ["--bare-server".to_owned(), address.clone()];
        let log = dirs::fresh("bare").join("server.log");
        let mut server = Self { address, process: Process::start(program, &args, &[], None, &log) };
        server.ready().await.with_context(|| tail(&log, 20))?;
        Ok(server)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.exited() {
                bail!("the bare server ended with {status}");
            }
            if let Ok(mut connection) = Connection::open(&self.address).await {
                let response = connection.get("/").await?;
                ensure!(response.status == 202, "the bare server answered {}", response.status);
                return Ok(());
            }
            ensure!(started.elapsed() < START_TIMEOUT, "the bare server does not answer after {START_TIMEOUT:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns its process.
    pub fn watched(&self) -> Watched {
        Watched::of("bare server", [self.process.id()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_request_of_a_connection_is_answered_as_the_publisher_answers_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(accept(listener));
        let mut connection = Connection::open(&address).await.unwrap();
        for length in [0, 365, 100_000] {
            let body = "x".repeat(length);
            let request = format!("POST /publish HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n{body}");
            let response = connection.exchange(request.as_bytes()).await.unwrap();
            assert_eq!((response.status, response.body.as_slice()), (202, ACCEPTED), "a body of {length} bytes");
        }
    }
}
