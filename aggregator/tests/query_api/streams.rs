//! Streams of events: their bounds, and their end.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures::StreamExt;
use sluice_tests::event_stream::EventStream;
use sluice_tests::wait_until;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_bounded_in_number_and_end_in_an_orderly_way_at_a_shutdown() {
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()));
    let stop = CancellationToken::new();
    let state = ApiState::new(sqlite_store().await, sqlite_log().await, rules()).ending_with(stop.clone());
    let options = ServeOptions::new(Duration::from_secs(60));
    let serving = tokio::spawn(server::run(listener, router(state), stop.clone(), options));
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(EventStream::open(&client, "/events/tail", None).await.unwrap());
    }
    let refused = client.get("/events/tail").await;
    refused.assert_problem(429, "too_many_queries");
    assert_eq!(refused.headers["retry-after"], "10");
    client.get("/events").await.assert_status(200);
    streams.pop();
    let again = wait_until("a place is free again", SOON, || EventStream::open(&client, "/events/tail", None)).await;
    streams.push(again);
    stop.cancel();
    for stream in &mut streams {
        assert_eq!(stream.next(SOON).await, Ok(None), "it ends, and is not cut off");
    }
    drop(streams);
    tokio::time::timeout(SOON, serving).await.expect("the server ends at once").unwrap().unwrap();
}

/// Opens a stream without a server, whose timeouts are not those of the stream. The clock is the test's from then on.
async fn open_alone(store: Arc<dyn Inspect>, path: &str) -> axum::body::BodyDataStream {
    let state = ApiState::new(store, sqlite_log().await, rules());
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = router(state).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body().into_data_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "retry: 1000\n\n");
    tokio::time::pause();
    body
}

#[tokio::test]
async fn a_stream_without_events_says_every_15_seconds_where_it_is_and_ends_after_ten_minutes() {
    let store = sqlite_store().await;
    bounded::store_events(&*store, &json!([{"event_id": "1", "payload": 1}])).await;
    let began = Instant::now();
    let mut body = open_alone(store, "/events/tail").await;
    let place = body.next().await.unwrap().unwrap();
    assert!(place.starts_with(b"id: f") && place.ends_with(b"\n\n"), "{place:?}");
    let (mut heartbeats, mut last) = (0, began);
    while let Some(frame) = body.next().await {
        let frame = frame.expect("the stream is not cut off");
        assert_eq!(frame, [b": \n", &place[..]].concat(), "a comment, and the place");
        // The store may take some time, or not answer at all, because the clock does not wait for it.
        assert!(last.elapsed() < Duration::from_secs(60), "{:?} without a heartbeat", last.elapsed());
        (heartbeats, last) = (heartbeats + 1, Instant::now());
    }
    assert!(heartbeats >= 10, "{heartbeats}");
    let open = began.elapsed().as_secs();
    assert!((600..610).contains(&open), "it ended after {open} s");
}

#[tokio::test]
async fn a_stream_whose_client_does_not_read_is_cut_off_after_half_a_minute() {
    let store = sqlite_store().await;
    let payload = "x".repeat(10 << 10);
    let events: Value = (0..200).map(|n| json!({"event_id": n.to_string(), "payload": payload})).collect();
    bounded::store_events(&*store, &events).await;
    let mut body = open_alone(store, "/events/tail?after=start").await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut bytes = 0;
    let end = loop {
        match body.next().await {
            Some(Ok(frame)) => bytes += frame.len(),
            end => break end,
        }
    };
    assert!(matches!(end, Some(Err(_))), "it must not look as if it had ended in an orderly way: {end:?}");
    assert!((100 << 10..512 << 10).contains(&bytes), "{bytes} bytes of 2 MB were in memory");
}
