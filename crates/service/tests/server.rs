//! Tests of the server's deadlines, of its shutdown, and of the responses that do not come from a handler.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking; clippy spares only the test functions themselves")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{get, post};
use sluice_event::RequestId;
use sluice_service::client_tls::plain_client;
use sluice_service::deadlines::Deadlines;
use sluice_service::options::ServeOptions;
use sluice_service::server;
use sluice_service::{healthcheck, metrics, probes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn start(router: Router) -> Server {
    start_with(router, Duration::from_millis(300)).await
}

/// Starts a server with this deadline for heads.
async fn start_with(router: Router, headers: Duration) -> Server {
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let soon = Duration::from_millis(300);
    let deadlines = Deadlines { headers, write: soon, shutdown_timeout: Duration::from_secs(5) };
    let running = tokio::spawn(server::run(listener, router, shutdown.clone(), deadlines.into()));
    Server { address, shutdown, running }
}

/// Sends bytes and returns all that the server sends until it closes the connection.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_the_shutdown_began() {
    let (started, mut has_started) = tokio::sync::mpsc::channel(1);
    let (release, released) = tokio::sync::watch::channel(false);
    let handler = move || {
        let (started, mut released) = (started.clone(), released.clone());
        async move {
            started.send(()).await.unwrap();
            released.wait_for(|go| *go).await.unwrap();
            "late"
        }
    };
    let server = start(Router::new().route("/slow", get(handler))).await;
    let request = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
    let client = tokio::spawn(exchange_owned(server.address, request));
    has_started.recv().await.unwrap();
    server.shutdown.cancel();
    // The listener is closed before the response is sent: repeat until connecting fails.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    release.send(true).unwrap();
    let answer = client.await.unwrap();
    assert!(answer.ends_with("late"), "{answer}");
    server.running.await.unwrap().unwrap();
}

async fn exchange_owned(address: SocketAddr, request: &'static [u8]) -> String {
    exchange(address, request).await
}

#[tokio::test]
async fn connections_left_after_the_shutdown_timeout_are_closed() {
    let (started, mut has_started) = tokio::sync::mpsc::channel::<()>(1);
    let handler = move || {
        let started = started.clone();
        async move {
            started.send(()).await.unwrap();
            std::future::pending::<&str>().await
        }
    };
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let router = Router::new().route("/never", get(handler));
    let running =
        tokio::spawn(server::run(listener, router, shutdown.clone(), ServeOptions::new(Duration::from_millis(100))));
    let client = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    });
    has_started.recv().await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert!(client.await.unwrap().is_empty());
}

#[tokio::test]
async fn headers_that_never_end_are_answered_408() {
    let server = start(Router::new()).await;
    let began = Instant::now();
    let answer = exchange(server.address, b"GET / HTTP/1.1\r\nhost: x\r\nslow").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("urn:sluice:problem:header_timeout"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// Asserts that this is a problem with this status and a request id.
fn assert_refused(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert!(RequestId::parse(id).is_some(), "{answer}");
    assert!(head.contains("content-type: application/problem+json"), "{answer}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["status"], status);
}

#[tokio::test]
async fn what_hyper_itself_refuses_is_a_problem_with_an_id() {
    let server = start(Router::new().route("/", get(|| async { "" }))).await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(70_000));
    for (request, statuses) in [
        ("nonsense\r\n\r\n", &[400][..]),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", &[400]),
        ("GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n", &[400]),
        (&long, &[414, 431]),
    ] {
        let answer = exchange(server.address, request.as_bytes()).await;
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        assert!(statuses.contains(&status), "{request:.40} → {answer}");
        assert_refused(&answer, status);
    }
    // After a good request on the same connection too.
    let answer = exchange(server.address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_refused(&answer[answer.rfind("HTTP/1.1 4").unwrap()..], 400);
}

/// A response that is sent in pieces, as they are read from a database. Each begins with what could be the beginning of
/// a refusal by hyper, and is awaited by the client before the next one, so that the connection is flushed between them.
#[tokio::test]
async fn a_piece_of_a_response_is_never_taken_for_a_refusal() {
    const PIECES: [&str; 4] =
        ["HTTP/1.1 446 this is text", "012345678446 and this", "HTTP/1.1 400 Bad Request\r\n", "end"];
    for length in [None, Some(PIECES.concat().len())] {
        let (next, pieces) = tokio::sync::mpsc::channel::<&str>(1);
        let pieces = std::sync::Arc::new(tokio::sync::Mutex::new(Some(pieces)));
        let handler = move || {
            let pieces = pieces.clone();
            async move {
                let pieces = pieces.lock().await.take().unwrap();
                let sent = futures::stream::unfold(pieces, |mut pieces| async {
                    pieces.recv().await.map(|piece| (Ok::<_, std::convert::Infallible>(piece), pieces))
                });
                let mut response = axum::response::Response::new(axum::body::Body::from_stream(sent));
                if let Some(length) = length {
                    response.headers_mut().insert("content-length", length.into());
                }
                response
            }
        };
        let server = start_with(Router::new().route("/pieces", get(handler)), Duration::from_secs(60)).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /pieces HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        for piece in PIECES {
            next.send(piece).await.unwrap();
            let arriving = async {
                while !answer.contains(piece) {
                    let mut buffer = [0; 1_000];
                    let read = stream.read(&mut buffer).await.unwrap();
                    assert!(read > 0, "closed before {piece:?}");
                    answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                }
            };
            let arrived = tokio::time::timeout(Duration::from_secs(60), arriving).await;
            assert!(arrived.is_ok(), "{piece:?} did not arrive, with the length {length:?}; what did:\n{answer}");
        }
    }
}

#[tokio::test]
async fn a_head_of_more_than_64_kib_is_refused_before_it_ends() {
    let server = start(Router::new().route("/", get(|| async { "" }))).await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}", "x".repeat(100 << 10));
    let answer = exchange(server.address, head.as_bytes()).await;
    assert_refused(&answer, 431);
    let most = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: {}\r\n\r\n", "x".repeat(50 << 10));
    let answer = exchange(server.address, most.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Returns those of the connections that the server has not closed.
async fn still_open(streams: Vec<TcpStream>) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for mut stream in streams {
        let read = tokio::time::timeout(Duration::from_millis(10), stream.read(&mut [0])).await;
        if !matches!(read, Ok(Ok(0) | Err(_))) {
            open.push(stream);
        }
    }
    open
}

#[tokio::test]
async fn all_long_heads_together_are_bounded_and_short_ones_are_not() {
    let server = start_with(Router::new().route("/", get(|| async { "" })), Duration::from_secs(60)).await;
    // The buffers of all heads may have 16 MiB beyond their first 8 KiB, and a buffer that grows is doubled: there is
    // room for 146 heads of 60 KiB.
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}", "x".repeat(60 << 10));
    let mut unfinished = Vec::new();
    for _ in 0..400 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        unfinished.push(stream);
    }
    // 400 − 146 are closed; one fewer or more if its head was read in other pieces.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut closed = 0;
    while closed < 240 && Instant::now() < deadline {
        let before = unfinished.len();
        unfinished = still_open(unfinished).await;
        closed += before - unfinished.len();
    }
    assert!((240..350).contains(&closed), "{closed} were closed");
    let answer = exchange(server.address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_client_still_sending_its_body_reads_the_answer() {
    let refuse = || async { (axum::http::StatusCode::PAYLOAD_TOO_LARGE, "too large") };
    let server = start(Router::new().route("/", post(refuse))).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = vec![b'x'; 4 << 20];
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_its_answer_unread_is_cut_off() {
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
    let server = start(Router::new().route("/endless", get(handler))).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let cut_off = tokio::time::timeout(Duration::from_secs(20), is_dropped).await;
    assert!(cut_off.is_ok(), "it is still being served");
}

#[tokio::test]
async fn unknown_paths_methods_and_panics_are_problems() {
    let panics = || async {
        assert!(std::hint::black_box(false), "on purpose");
    };
    let server = start(Router::new().route("/only-get", get(|| async { "ok" })).route("/panics", get(panics))).await;
    for (line, status, code) in [
        ("GET /nowhere", 404, "not_found"),
        ("POST /only-get", 405, "method_not_allowed"),
        ("GET /panics", 500, "internal"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(answer.contains("application/problem+json"), "{line}: {answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{line}: {answer}");
        assert_eq!(answer.contains("allow: GET"), status == 405, "{line}: {answer}");
        assert!(!answer.contains("on purpose"), "{line}: {answer}");
    }
}

#[tokio::test]
async fn a_request_id_is_echoed_when_it_is_a_uuid_and_made_when_not() {
    let server = start(Router::new().route("/", get(|| async { "ok" }))).await;
    let id = "0190b5a0-4d4b-7cc2-b7f0-6a4de2f9c0aa";
    let client = plain_client().unwrap().build().unwrap();
    let url = format!("http://{}/", server.address);
    let asked = client.get(&url).header("X-Request-Id", id).send().await.unwrap();
    assert_eq!(asked.headers()["x-request-id"], id);
    let other = client.get(&url).header("X-Request-Id", "trace-42").send().await.unwrap();
    RequestId::parse(other.headers()["x-request-id"].to_str().unwrap()).unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_says_so_at_healthz() {
    let hangs = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = hangs.clone();
    let live = move || match asked.load(std::sync::atomic::Ordering::SeqCst) {
        true => Err("nothing has ended for 301 s".to_owned()),
        false => Ok(()),
    };
    let ready = || -> futures::future::BoxFuture<'static, probes::Readiness> { Box::pin(async { Ok(Vec::new()) }) };
    let server = start(probes::router_with(metrics::install(), String::new, live, ready)).await;
    let client = plain_client().unwrap().build().unwrap();
    let url = format!("http://{}/healthz", server.address);
    let healthy = client.get(&url).send().await.unwrap();
    assert_eq!((healthy.status().as_u16(), healthy.text().await.unwrap().as_str()), (200, "ok\n"));
    hangs.store(true, std::sync::atomic::Ordering::SeqCst);
    let hanging = client.get(&url).send().await.unwrap();
    let answer = (hanging.status().as_u16(), hanging.text().await.unwrap());
    assert_eq!(answer, (503, "nothing has ended for 301 s\n".to_owned()));
}

#[tokio::test]
async fn probes_say_what_they_are_asked() {
    let ready = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = ready.clone();
    let check = move || -> futures::future::BoxFuture<'static, probes::Readiness> {
        let ready = asked.load(std::sync::atomic::Ordering::SeqCst);
        Box::pin(async move { if ready { Ok(Vec::new()) } else { Err("the store is down".to_owned()) } })
    };
    let server = start(probes::router(metrics::install(), check)).await;
    let url = format!("http://{}", server.address);

    let refused = healthcheck::run(&url).await.unwrap_err().to_string();
    assert!(refused.contains("the store is down"), "{refused}");
    ready.store(true, std::sync::atomic::Ordering::SeqCst);
    healthcheck::run(&url).await.unwrap();

    let client = plain_client().unwrap().build().unwrap();
    let text = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.contains("/readyz") && line.contains("\"503\""));
    assert!(line.is_some_and(|line| line.starts_with("sluice_http_requests_total{")), "{text}");
    assert!(text.contains("sluice_http_request_seconds_bucket"), "{text}");
    let memory = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    let memory: f64 = memory.unwrap_or("0").parse().unwrap();
    // On Linux the value is known: this test uses more than a mebibyte and less than a gibibyte.
    assert!(!cfg!(target_os = "linux") || (1 << 20..1 << 30).contains(&(memory as u64)), "{memory}");
}
