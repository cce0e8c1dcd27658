//! Streams of events: their bounds, and their end.

use std::time::Duration;

use sluice_tests::event_stream::EventStream;
use sluice_tests::wait_until;

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
