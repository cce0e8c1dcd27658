//! Clients that do not read their answers.

use sluice_event::entry::Entry;
use sluice_event::{EntryId, Event, Limits, RequestId, Timestamp};
use sluice_log::Position;
use sluice_store::Store;
use sluice_store::commit::{Batch, commit};
use sluice_tests::wait::holds;
use sluice_tests::wait_until;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;

/// More than a page, and than the buffers of a connection.
async fn store_large_events(store: &dyn Store) {
    let payload = "x".repeat(200 << 10);
    let events: Value = (0..100).map(|n| json!({"event_id": n.to_string(), "payload": payload})).collect();
    let body = events.to_string();
    let limits = Limits { body_bytes: usize::MAX, ..Limits::default() };
    let events: Vec<Event<'_>> = sluice_event::parse(body.as_bytes(), &limits, Timestamp::now()).expect("events");
    let request = sluice_event::entry::Request {
        id: RequestId::random(),
        receipt: None,
        waits: false,
        accepted_at: Timestamp::now(),
        trace: None,
        events,
    };
    let entries = vec![(
        Position { stream: 0, millis: 1, sequence: 1 },
        Entry { id: EntryId::random(), requests: vec![request] },
    )];
    commit(store, &rules(), &Batch { entries, ..Batch::default() }).await.unwrap();
}

/// Asks for a list and waits for the first byte of it, but reads no more.
async fn begin_to_read(client: &Client) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let address = client.base().trim_start_matches("http://").parse().unwrap();
    let mut connection = socket.connect(address).await.unwrap();
    connection.write_all(b"GET /events?limit=1000 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    connection.read_u8().await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_nobody_reads_are_bounded_in_number_and_leave_other_queries_alone() {
    let store = sqlite_store().await;
    store_large_events(&*store).await;
    let (client, _serving) = serve(store, sqlite_log().await).await;
    let mut readers = Vec::new();
    for _ in 0..32 {
        readers.push(begin_to_read(&client).await);
    }
    let refused = client.get("/events").await;
    refused.assert_problem(429, "too_many_queries");
    assert!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    for path in ["/stats", "/topics", "/dead-letters", "/events/default/1"] {
        client.get(path).await.assert_status(200);
    }
    readers.pop();
    wait_until("a place is free again", Duration::from_secs(60), || async {
        let status = client.get("/events?limit=1").await.status;
        holds(status == 200, || status.to_string())
    })
    .await;
}
