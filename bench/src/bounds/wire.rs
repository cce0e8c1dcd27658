//! Rendered requests, and exchanges of which only the status is of interest.

use std::time::Duration;

use sluice_tests::certificates::{client_config, ours};
use sluice_tests::raw::{self, Raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::http::Connection;

/// How long an exchange may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where the publisher is.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `HOST:PORT`.
    pub address: String,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Endpoint {
    /// Connects, with a handshake if it speaks TLS.
    ///
    /// # Errors
    /// If the server closes the connection.
    pub async fn open(&self) -> anyhow::Result<Connection<Box<dyn Raw>>> {
        let socket = TcpStream::connect(&self.address).await?;
        socket.set_nodelay(true)?;
        if !self.tls {
            return Ok(Connection::over(Box::new(socket)));
        }
        let config = client_config(Some(ours().authority.ca()), None);
        Ok(Connection::over(Box::new(raw::handshake(socket, config).await?)))
    }
}

/// Returns the JSON of an event.
pub fn event(topic: &str, id: &str, payload: &str) -> String {
    format!(r#"{{"topic":"{topic}","event_id":"{id}","payload":{payload}}}"#)
}

/// Returns the request that publishes this body.
pub fn publish(body: &str, key: Option<&str>) -> Vec<u8> {
    let key = key.map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
    let length = body.len();
    let head = "POST /publish HTTP/1.1\r\nHost: sluice\r\nContent-Type: application/json\r\n";
    format!("{head}{key}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Sends a request without a body on a connection of its own, and reads its whole answer without keeping it. Returns
/// the status; `None` if there was no answer.
pub async fn status_of(address: &str, method: &str, path: &str) -> Option<u16> {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await.ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: sluice\r\nAccept: application/x-ndjson, application/json\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut buffer = vec![0; 64 << 10];
        let first = socket.read(&mut buffer).await.ok()?;
        let status = std::str::from_utf8(buffer.get(9..12)?).ok()?.parse().ok();
        if first > 0 {
            while socket.read(&mut buffer).await.ok()? > 0 {}
        }
        status
    };
    tokio::time::timeout(TIMEOUT, exchange).await.ok().flatten()
}
