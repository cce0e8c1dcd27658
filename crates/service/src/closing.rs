//! How a connection ends: with a refusal that hyper does not send, and without losing what was sent before.

use std::time::Duration;

use axum::response::Response;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::transport::Transport;

/// How long a connection that is being closed continues to read, and to discard, what the client sends.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// Sends a response past hyper, which closes a connection without a response when the headers do not arrive in time,
/// and with one that has no body when it refuses them.
pub(crate) async fn send(stream: &mut Transport, response: Response) {
    let (parts, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 4_096).await else { return };
    let mut bytes = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    let written = tokio::time::timeout(LINGER, stream.write_all(&bytes)).await;
    if let Ok(Err(error)) | Err(error) = written.map_err(std::io::Error::from) {
        tracing::debug!(%error, "cannot send a refusal");
    }
}

/// Closes the sending side first and continues to read for up to [`LINGER`]. Closing a socket with unread bytes
/// resets the connection, and a client that is still sending its body would lose the response (413).
pub(crate) async fn close(mut stream: Transport) {
    let lingering = async {
        stream.shutdown().await?;
        loop {
            // What comes over TLS is discarded without being decrypted.
            stream.tcp().readable().await?;
            if discard(stream.tcp())? {
                return Ok::<_, std::io::Error>(());
            }
        }
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, lingering).await {
        tracing::trace!(%error, "closing a connection");
    }
}

/// Reads what has arrived; returns whether it was the end. The buffer is on the stack, and not in a future that waits.
fn discard(stream: &TcpStream) -> std::io::Result<bool> {
    let mut discarded = [0; 8_192];
    match stream.try_read(&mut discarded) {
        Ok(read) => Ok(read == 0),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
