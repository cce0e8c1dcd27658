//! Connections on which a test sends the bytes of HTTP itself.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates::{HOST, client_config, ours};

/// A connection, with or without TLS.
pub trait Raw: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Raw for T {}

/// Connects to the system at `base`. Over TLS it has our certificate.
pub async fn connect(base: &str) -> Box<dyn Raw> {
    let (scheme, address) = base.split_once("://").expect("a URL");
    over(scheme, TcpStream::connect(address).await.expect("a connection")).await
}

/// Speaks HTTP or HTTPS over a stream that is connected.
pub async fn over(scheme: &str, stream: TcpStream) -> Box<dyn Raw> {
    if scheme == "http" {
        return Box::new(stream);
    }
    let config = client_config(Some(ours().authority.ca()), Some(&ours().client));
    Box::new(handshake(stream, config).await.expect("a TLS connection"))
}

/// Makes a TLS connection with these settings over a stream that is connected to one of our servers.
///
/// # Errors
/// Why the handshake failed.
pub async fn handshake(stream: TcpStream, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(HOST).expect("the name of a host");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Returns the bytes with which a client of one of our servers begins a handshake.
pub fn client_hello() -> Vec<u8> {
    let name = ServerName::try_from(HOST).expect("the name of a host");
    let mut client = ClientConnection::new(Arc::new(client_config(None, None)), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("bytes");
    bytes
}
