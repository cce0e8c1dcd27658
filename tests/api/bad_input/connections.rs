//! Bodies that do not arrive completely, sent over raw TCP.

use std::time::Duration;

use serde_json::Value;
use sluice_tests::raw::{self, Raw};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Longer than any response should take, including the slow ones.
const PATIENCE: Duration = Duration::from_secs(120);
const BODY: &str = r#"{"topic":"bad","id":"1","payload":1}"#;

/// Sends each incomplete or invalid body, and fails on the first that is not refused with the expected problem.
pub async fn refuse_all(base: &str) {
    println!("a body that stops half way, with the connection open");
    let mut slow = request(base, "Content-Length: 37\r\n", &BODY[..20]).await;
    assert_problem(&answer(&mut slow).await, 408, "body_timeout");

    println!("a body that never begins");
    let mut silent = request(base, "Content-Length: 37\r\n", "").await;
    assert_problem(&answer(&mut silent).await, 408, "body_timeout");

    println!("a body that arrives byte by byte, without an end");
    let dripping = request(base, "Content-Length: 10000\r\n", "").await;
    let (mut from, mut to) = tokio::io::split(dripping);
    let drip = async {
        // The response may arrive before a write fails, so it is always read to its end.
        while to.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        std::future::pending().await
    };
    let dripped = tokio::select! {
        answer = answer(&mut from) => answer,
        never = drip => never,
    };
    assert_problem(&dripped, 408, "body_timeout");

    println!("a body shorter than announced, and the end of the connection");
    let mut truncated = request(base, "Content-Length: 37\r\n", &BODY[..20]).await;
    truncated.shutdown().await.expect("the write side is closed");
    assert_problem(&answer(&mut truncated).await, 400, "malformed_json");

    println!("chunks without the last one");
    let mut truncated = request(base, "Transfer-Encoding: chunked\r\n", "24\r\n{\"topic\":").await;
    truncated.shutdown().await.expect("the write side is closed");
    assert_problem(&answer(&mut truncated).await, 400, "malformed_json");

    println!("a chunk with an invalid length");
    let mut broken = request(base, "Transfer-Encoding: chunked\r\n", &format!("zz\r\n{BODY}\r\n0\r\n\r\n")).await;
    assert_problem(&answer(&mut broken).await, 400, "malformed_json");

    println!("a Content-Length above the limit, and no body");
    let mut announced = request(base, "Content-Length: 99999999\r\n", "").await;
    assert_problem(&answer(&mut announced).await, 413, "body_too_large");

    println!("chunks above the limit, without an end");
    let chunks = format!("c350\r\n{}\r\n", " ".repeat(50_000)).repeat(2);
    let mut endless = request(base, "Transfer-Encoding: chunked\r\n", &chunks).await;
    assert_problem(&answer(&mut endless).await, 413, "body_too_large");

    println!("a connection that is dropped in the middle of a body, 50 times");
    for _ in 0..50 {
        drop(request(base, "Content-Length: 37\r\n", &BODY[..30]).await);
    }
}

/// Opens a connection, and sends the head of a request and the beginning of its body.
async fn request(base: &str, header: &str, body: &str) -> Box<dyn Raw> {
    let mut connection = raw::connect(base).await;
    let head = format!("POST /publish HTTP/1.1\r\nHost: sluice\r\nContent-Type: application/json\r\n{header}\r\n");
    connection.write_all(format!("{head}{body}").as_bytes()).await.expect("the server reads");
    connection.flush().await.expect("the server reads");
    connection
}

/// Returns the response, up to the end of the connection or up to its announced length.
async fn answer(connection: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while !complete(&text) {
            match connection.read(&mut buffer).await {
                Ok(n) if n > 0 => text.extend_from_slice(&buffer[..n]),
                _ => break,
            }
        }
    };
    timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no response within {PATIENCE:?}"));
    String::from_utf8_lossy(&text).into_owned()
}

fn complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

#[track_caller]
fn assert_problem(answer: &str, status: u16, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "expected {status} {code}: {answer:?}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.to_ascii_lowercase().contains("content-type: application/problem+json"), "{answer}");
    let problem: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
    assert_eq!((problem["status"].as_u64(), problem["code"].as_str()), (Some(u64::from(status)), Some(code)));
}
