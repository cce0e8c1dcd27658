//! An HTTP/1.1 client that does only what the load needs: it sends a rendered request, and reads the status
//! and the body of the response.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a response may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A keep-alive connection, without TLS unless it is made over another stream.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    socket: S,
    buffer: Vec<u8>,
}

/// The parts of a response that the load needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        Ok(Self::over(socket))
    }

    /// Connects to the same address again.
    pub async fn reopen(&mut self) -> anyhow::Result<()> {
        let address = self.socket.peer_addr().context("a connection without an address")?;
        *self = Self::open(&address.to_string()).await?;
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Uses a stream that is connected.
    pub fn over(socket: S) -> Self {
        Self { socket, buffer: Vec::with_capacity(4096) }
    }

    /// Sends a whole request and reads its response.
    ///
    /// # Errors
    /// If the connection fails, or no whole response arrives within 30 seconds.
    pub async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Response> {
        let exchange = async {
            self.socket.write_all(request).await.context("the request cannot be sent")?;
            self.read_response().await
        };
        tokio::time::timeout(RESPONSE_TIMEOUT, exchange).await.context("no response")?
    }

    /// Sends `GET path`.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Response> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes()).await
    }

    async fn read_response(&mut self) -> anyhow::Result<Response> {
        self.buffer.clear();
        loop {
            let read = self.socket.read_buf(&mut self.buffer).await.context("the connection failed")?;
            ensure!(read > 0, "the connection was closed before the response was complete");
            if let Some(response) = parse(&self.buffer)? {
                return Ok(response);
            }
        }
    }
}

/// Parses a response. Returns `None` while it is incomplete.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<Response>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("a response whose head is not text")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let Some(status) = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()) else {
        bail!("not an HTTP response: {status_line}");
    };
    let (mut length, mut retry_after) = (None, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("retry-after") {
            retry_after = value.trim().parse().ok();
        }
    }
    let length = length.with_context(|| format!("a response without a length: {head}"))?;
    let body = &bytes[end + 4..];
    Ok((body.len() >= length).then(|| Response { status, retry_after, body: body[..length].to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\nRETRY-after: 3\r\n\r\n{\"count\":1";

    #[test]
    fn a_response_that_comes_byte_by_byte_is_read_once_it_is_complete() {
        for length in 0..ACCEPTED.len() {
            assert_eq!(parse(&ACCEPTED[..length]).unwrap(), None, "after {length} bytes");
        }
        let response = parse(ACCEPTED).unwrap().unwrap();
        assert_eq!(response, Response { status: 202, retry_after: Some(3), body: b"{\"count\":1".to_vec() });
    }

    #[test]
    fn a_response_that_cannot_be_delimited_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
