//! Tests of a server that speaks TLS: the deadlines and bounds of its connections are those of one without.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking; clippy spares only the test functions themselves")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use sluice_service::deadlines::Deadlines;
use sluice_service::options::ServeOptions;
use sluice_service::server;
use sluice_service::server_tls::{ServerTls, ServerTlsFiles};
use sluice_tests::certificates::{Authority, HOST, Identity, client_config, ours};
use sluice_tests::raw::handshake;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_millis(300);
const LATER: Duration = Duration::from_secs(60);
const REQUEST: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// Starts a server with this deadline for heads and handshakes, and at most so many connections.
async fn start(router: Router, headers: Duration, connections: usize) -> SocketAddr {
    start_for(Some(ours().authority.ca().to_owned()), router, headers, connections).await
}

/// Starts a server whose clients must have certificates of this CA, if there is one.
async fn start_for(client_ca: Option<PathBuf>, router: Router, headers: Duration, connections: usize) -> SocketAddr {
    let Identity { cert, key } = ours().server.clone();
    let tls = ServerTls::load(ServerTlsFiles { cert, key, client_ca }).unwrap();
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let deadlines = Deadlines { headers, write: SOON, shutdown_timeout: SOON };
    let options = ServeOptions::from(deadlines).with_tls(Some(tls)).at_most(connections);
    tokio::spawn(server::run(listener, router, CancellationToken::new(), options));
    address
}

fn routes() -> Router {
    let refuse = || async { (StatusCode::PAYLOAD_TOO_LARGE, "too large") };
    Router::new().route("/", get(|| async { "hello" })).route("/large", post(refuse))
}

/// Sends bytes over TLS and returns all that the server sends until it closes the connection.
async fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let config = client_config(Some(ours().authority.ca()), Some(&ours().client));
    let mut stream = handshake(TcpStream::connect(address).await?, config).await?;
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Sends bytes without TLS and returns all that the server sends until it closes the connection.
async fn exchange_plain(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LATER, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is still open");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_are_answered_and_refused_over_tls_as_without() {
    let server = start(routes(), LATER, 64).await;
    let two = format!("GET / HTTP/1.1\r\nhost: x\r\n\r\n{REQUEST}");
    let answer = exchange(server, two.as_bytes()).await.unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    let answer = exchange(server, b"nonsense\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("application/problem+json"), "{answer}");
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}", "x".repeat(100 << 10));
    let answer = exchange(server, long.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // A client that is still sending its body reads the answer, and the end of the connection is announced.
    let body = "x".repeat(4 << 20);
    let large = format!("POST /large HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let answer = exchange(server, large.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_answered_408_over_tls() {
    let server = start(routes(), SOON, 64).await;
    let answer = exchange(server, b"GET / HTTP/1.1\r\nhost: x\r\nslow").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn plain_http_to_a_port_of_tls_is_answered_with_what_to_do_and_other_bytes_with_nothing() {
    let server = start(routes(), LATER, 64).await;
    let answer = exchange_plain(server, REQUEST.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks TLS: use https://"), "{answer}");
    assert_eq!(exchange_plain(server, b"\x05\x01\x00").await, "");
    // The first byte is that of TLS, and the rest is not: the answer is an alert, whose first byte is 21.
    let answer = exchange_plain(server, b"\x16GET / HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with('\x15'), "{answer:?}");
}

#[tokio::test]
async fn a_client_needs_a_certificate_of_the_ca_of_clients() {
    let (server, other) = (start(routes(), LATER, 64).await, Authority::new());
    let stranger = other.issue("stranger.example");
    for (identity, reason) in [(None, "CertificateRequired"), (Some(&stranger), "UnknownCA")] {
        let config = client_config(Some(ours().authority.ca()), identity);
        let connected = async {
            let mut stream = handshake(TcpStream::connect(server).await?, config).await?;
            stream.write_all(REQUEST.as_bytes()).await?;
            stream.read_to_end(&mut Vec::new()).await
        };
        let error = connected.await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(exchange(server, REQUEST.as_bytes()).await.unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_cut_off() {
    let server = start(routes(), SOON, 64).await;
    let began = Instant::now();
    assert_eq!(exchange_plain(server, b"\x16\x03\x01\x02\x00\x01\x00").await, "");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn clients_that_do_not_finish_their_handshake_or_send_no_request_give_their_places_to_others() {
    let server = start(routes(), LATER, 4).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").await.unwrap();
        idle.push(stream);
    }
    let answer = tokio::time::timeout(LATER / 2, exchange(server, REQUEST.as_bytes())).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut without_request = Vec::new();
    for _ in 0..4 {
        let config = client_config(Some(ours().authority.ca()), Some(&ours().client));
        let connected = handshake(TcpStream::connect(server).await.unwrap(), config);
        without_request.push(tokio::time::timeout(LATER / 2, connected).await.unwrap().unwrap());
    }
    let answer = tokio::time::timeout(LATER / 2, exchange(server, REQUEST.as_bytes())).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Returns how many of these connections the server closes; waits until they are at least `wanted`, or for too long.
async fn closed_by_the_server<S: AsyncRead + Unpin>(mut connections: Vec<S>, wanted: usize) -> usize {
    let deadline = Instant::now() + LATER / 2;
    let mut closed = 0;
    while closed < wanted && Instant::now() < deadline {
        let mut open = Vec::new();
        for mut stream in connections {
            match tokio::time::timeout(Duration::from_millis(10), stream.read(&mut [0])).await {
                Ok(Ok(0) | Err(_)) => closed += 1,
                _ => open.push(stream),
            }
        }
        connections = open;
    }
    closed
}

#[tokio::test]
async fn all_long_handshakes_together_are_bounded() {
    let server = start(routes(), LATER, 8_192).await;
    // The beginning of a ClientHello of 60,000 bytes, in records of 16 KiB.
    let mut message = vec![1, 0, 0xea, 0x60];
    message.resize(55 << 10, 0);
    let records: Vec<u8> = message
        .chunks(16 << 10)
        .flat_map(|part| [&[22, 3, 1, (part.len() >> 8) as u8, part.len() as u8][..], part].concat())
        .collect();
    // Its buffer counts for up to 104 KiB, and all of them may have 16 MiB: there is room for about 157 of them.
    let mut unfinished = Vec::new();
    for _ in 0..400 {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(&records).await.unwrap();
        unfinished.push(stream);
    }
    let closed = closed_by_the_server(unfinished, 220).await;
    assert!((220..350).contains(&closed), "{closed} were closed");
    assert!(exchange(server, REQUEST.as_bytes()).await.unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn all_long_heads_together_are_bounded_over_tls() {
    let server = start(routes(), LATER, 8_192).await;
    // The buffers of all heads may have 16 MiB beyond their first 8 KiB, and a buffer that grows is doubled: there is
    // room for about 146 heads of 60 KiB. The server stops reading one that is refused, so that writing it may fail.
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}", "x".repeat(60 << 10));
    let config = client_config(Some(ours().authority.ca()), Some(&ours().client));
    let mut unfinished = Vec::new();
    for _ in 0..300 {
        let mut stream = handshake(TcpStream::connect(server).await.unwrap(), config.clone()).await.unwrap();
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.flush().await;
        unfinished.push(stream);
    }
    let closed = closed_by_the_server(unfinished, 130).await;
    assert!((130..250).contains(&closed), "{closed} were closed");
    assert!(exchange(server, REQUEST.as_bytes()).await.unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn long_handshakes_that_have_ended_take_nothing_from_those_of_others() {
    let server = start(routes(), LATER, 8_192).await;
    let mut config = client_config(Some(ours().authority.ca()), Some(&ours().client));
    // A ClientHello of more than 40 KiB, whose buffer counts for 80 KiB until the handshake has ended.
    config.alpn_protocols = (0..200).map(|number| format!("{number:0200}").into_bytes()).collect();
    config.alpn_protocols.push(b"http/1.1".to_vec());
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(handshake(TcpStream::connect(server).await.unwrap(), config.clone()).await.unwrap());
    }
    for stream in &mut idle {
        let closed = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0])).await;
        assert!(closed.is_err(), "a connection was closed: {closed:?}");
    }
    assert!(exchange(server, REQUEST.as_bytes()).await.unwrap().starts_with("HTTP/1.1 200 "));
}

/// Sends a request in the same piece as the end of the handshake, as TLS 1.3 lets a client do, and returns the answer.
fn exchange_at_once(address: SocketAddr) -> String {
    let config = client_config(Some(ours().authority.ca()), Some(&ours().client));
    let mut session = ClientConnection::new(Arc::new(config), ServerName::try_from(HOST).unwrap()).unwrap();
    // It is kept until the handshake has ended.
    session.writer().write_all(REQUEST.as_bytes()).unwrap();
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(LATER / 2)).unwrap();
    loop {
        let mut piece = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut piece).unwrap();
        }
        socket.write_all(&piece).unwrap();
        if !session.is_handshaking() {
            break;
        }
        session.read_tls(&mut socket).unwrap();
        session.process_new_packets().unwrap();
    }
    let mut answer = String::new();
    rustls::Stream::new(&mut session, &mut socket).read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_together_with_the_end_of_the_handshake_is_answered() {
    let server = start(routes(), LATER, 64).await;
    let answer = tokio::task::spawn_blocking(move || exchange_at_once(server)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_finishes_its_handshake_and_sends_no_request_is_cut_off() {
    let server = start(routes(), SOON, 64).await;
    let config = client_config(Some(ours().authority.ca()), Some(&ours().client));
    let mut stream = handshake(TcpStream::connect(server).await.unwrap(), config).await.unwrap();
    let read = tokio::time::timeout(LATER / 2, stream.read_to_end(&mut Vec::new())).await;
    assert!(read.is_ok(), "the connection is still open");
}

/// Returns the settings of a client of ours that speaks one version.
fn client_config_of(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ours().authority.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let Identity { cert, key } = &ours().client;
    let cert = vec![CertificateDer::from_pem_file(cert).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    builder.with_root_certificates(roots).with_client_auth_cert(cert, key).unwrap()
}

#[tokio::test]
async fn the_session_of_a_client_is_resumed_unless_its_certificate_is_checked() {
    for (client_ca, expected) in
        [(None, HandshakeKind::Resumed), (Some(ours().authority.ca().to_owned()), HandshakeKind::Full)]
    {
        let server = start_for(client_ca, routes(), LATER, 64).await;
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = client_config_of(version);
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let mut stream = handshake(TcpStream::connect(server).await.unwrap(), config.clone()).await.unwrap();
                stream.write_all(REQUEST.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_to_end(&mut Vec::new()).await.unwrap();
                kinds.extend(stream.get_ref().1.handshake_kind());
            }
            assert_eq!(kinds, [HandshakeKind::Full, expected], "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_its_answer_unread_is_cut_off_over_tls() {
    let (dropped, is_dropped) = tokio::sync::oneshot::channel::<()>();
    let dropped = std::sync::Arc::new(std::sync::Mutex::new(Some(dropped)));
    let handler = move || {
        // The sender is dropped with the body, and the body with the connection.
        let held = dropped.lock().unwrap().take();
        let endless = futures::stream::repeat_with(move || {
            let _ = &held;
            Ok::<_, std::io::Error>(vec![b'x'; 64 << 10])
        });
        async move { axum::body::Body::from_stream(endless) }
    };
    let server = start(Router::new().route("/", get(handler)), LATER, 64).await;
    let config = client_config(Some(ours().authority.ca()), Some(&ours().client));
    let mut stream = handshake(TcpStream::connect(server).await.unwrap(), config).await.unwrap();
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let cut_off = tokio::time::timeout(LATER / 2, is_dropped).await;
    assert!(cut_off.is_ok(), "it is still being served");
}
