//! What clients that send slowly, or leave, can take of the publisher's memory.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_tests::{Answer, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, PATIENCE, event};

const MIB: usize = 1 << 20;

/// Returns a valid body of about this number of bytes, and not more.
fn body(bytes: usize) -> String {
    let payload = "x".repeat(200 << 10);
    let events: Vec<_> = (0..bytes / payload.len()).map(|n| json!({"id": n.to_string(), "payload": payload})).collect();
    json!(events).to_string()
}

/// Sends a request of which the last `missing` bytes do not arrive.
async fn send(fixture: &Fixture, body: &str, missing: usize) -> TcpStream {
    let address = fixture.client.base().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let head = format!("{head}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body.as_bytes()[..body.len() - missing]).await.unwrap();
    stream
}

/// Publishes on a connection that is not used again: the server closes it when it refuses a body that is arriving.
async fn publish(fixture: &Fixture, body: &str) -> Answer {
    let request = fixture.client.request("POST", "/publish").header("connection", "close");
    fixture.client.send(request.header("content-type", "application/json").body(body.to_owned())).await
}

#[tokio::test]
async fn a_request_whose_client_has_left_keeps_its_bytes_reserved_while_it_is_in_the_queue() {
    let fixture = Fixture::start(&["--max-waiting-bytes", "8MiB", "--append-timeout", "60s"]).await;
    fixture.freeze_redis().await;
    let body = body(MIB);
    let mut clients = Vec::new();
    for number in 1..=7 {
        clients.push(send(&fixture, &body, 0).await);
        fixture.waiting(number).await;
    }
    drop(clients);
    // The server notices within milliseconds that the clients have left. At least three requests are not sent to
    // Redis yet, so they stay in the queue for another attempt to append, which takes five seconds while Redis does
    // not answer.
    // Without the reservation a request that needs nearly all bytes would wait for Redis too.
    let large = self::body(7 * MIB + MIB / 2);
    // Much shorter than these five seconds, of which a busy machine has used some already.
    let until = Instant::now() + Duration::from_millis(700);
    while Instant::now() < until {
        publish(&fixture, &large).await.assert_problem(429, "queue_full");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture.thaw_redis();
    wait_until("the bytes are free again", PATIENCE, || async {
        let answer = publish(&fixture, &large).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.text) }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stops_arriving_makes_room_for_others() {
    let fixture = Fixture::start(&["--max-waiting-bytes", "8MiB", "--body-timeout", "10m"]).await;
    let large = body(7 * MIB + MIB / 2);
    let mut slow = send(&fixture, &large, 1).await;
    let one = body(2 * MIB);
    wait_until("the slow body holds its bytes", PATIENCE, || async {
        let answer = publish(&fixture, &one).await;
        if answer.status == 429 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    // Without the bound the slow body would hold its bytes for ten minutes.
    wait_until("another request is accepted", PATIENCE, || async {
        let answer = publish(&fixture, &one).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("queue_full"), "{answer}");
}

#[tokio::test]
async fn a_body_that_arrives_slowly_is_accepted_while_nobody_needs_its_bytes() {
    let fixture = Fixture::start(&["--max-waiting-bytes", "8MiB"]).await;
    let body = event("slow").to_string();
    let mut slow = send(&fixture, &body, 1).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    slow.write_all(&body.as_bytes()[body.len() - 1..]).await.unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");
}
