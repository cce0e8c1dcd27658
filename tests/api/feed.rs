//! The feed: pages and streams with every event once, in one order.

use std::time::Duration;

use sluice_tests::event_stream::EventStream;
use sluice_tests::{Backend, Client, Setup, System};

use crate::common::{events, ids, system};

const SOON: Duration = Duration::from_secs(30);

on_both_backends!(
    pages_go_on_where_the_last_one_ended_with_what_came_since,
    a_stream_sends_what_comes_and_goes_on_after_its_last_event_id,
    a_stream_goes_on_without_loss_and_repetition_when_an_aggregator_is_killed,
    what_the_feed_is_asked_wrongly_is_refused,
);

/// Reads the ids of so many events.
async fn read(stream: &mut EventStream, events: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < events {
        let event = stream.next(SOON).await.unwrap().expect("the stream goes on");
        assert_eq!(event.kind, "message");
        seen.push(event.data["event_id"].as_str().unwrap().to_owned());
    }
    seen
}

fn expected(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|n| format!("evt-{n}")).collect()
}

async fn pages_go_on_where_the_last_one_ended_with_what_came_since(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let end = client.get_json("/events?order=asc&after=end").await;
    assert_eq!((&end["events"], &end["more"]), (&serde_json::json!([]), &false.into()), "{end}");
    system.publish_and_wait(0, &events("t", 0..10)).await;
    system.publish_and_wait(10, &events("other", 10..15)).await;
    let mut after = end["next_cursor"].as_str().unwrap().to_owned();
    let mut seen = Vec::new();
    loop {
        let page = client.get_json(&format!("/events?order=asc&limit=4&topic=t&after={after}")).await;
        assert!(page["repeated_from"].is_null() && page["generation"] == end["generation"], "{page}");
        seen.extend(ids(page["events"].as_array().unwrap()).into_iter().map(str::to_owned));
        after = page["next_cursor"].as_str().unwrap().to_owned();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(seen, expected(0..10));
    system.publish_and_wait(15, &events("t", 20..22)).await;
    let request = client.request("GET", &format!("/events?order=asc&after={after}"));
    let lines = client.send(request.header("Accept", "application/x-ndjson")).await.assert_status(200);
    let seen: Vec<serde_json::Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids(&seen), expected(20..22), "the other topic was passed");
    assert_eq!(lines.headers["x-more"], "false");
    let next = lines.headers["x-next-cursor"].to_str().unwrap();
    let page = client.get_json(&format!("/events?order=asc&after={next}")).await;
    assert_eq!((&page["events"], &page["next_cursor"]), (&serde_json::json!([]), &next.into()));
}

async fn a_stream_sends_what_comes_and_goes_on_after_its_last_event_id(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..3)).await;
    let mut stream = EventStream::open(&system.client, "/events/tail", None).await.unwrap();
    let mut from_start = EventStream::open(&system.client, "/events/tail?after=start&topic=t", None).await.unwrap();
    system.publish_and_wait(3, &events("t", 3..8)).await;
    assert_eq!(read(&mut from_start, 8).await, expected(0..8));
    assert_eq!(read(&mut stream, 2).await, expected(3..5), "it begins at its end");
    let id = stream.last_id().expect("an id").to_owned();
    drop(stream);
    let mut again = EventStream::open(&system.client, "/events/tail", Some(&id)).await.unwrap();
    assert_eq!(read(&mut again, 3).await, expected(5..8));
}

/// Reads a stream of a client that comes back, until it has this many events.
async fn follow(base: String, events: usize) -> Vec<String> {
    let client = Client::new(&base);
    let (mut seen, mut last_id, mut opened) = (Vec::new(), None::<String>, 0);
    while seen.len() < events {
        let path = "/events/tail?after=start";
        let Ok(mut stream) = EventStream::open(&client, path, last_id.as_deref()).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        opened += 1;
        while seen.len() < events {
            let Ok(Some(event)) = stream.next(SOON).await else { break };
            assert_eq!(event.kind, "message", "{event:?}");
            seen.push(event.data["event_id"].as_str().unwrap().to_owned());
            last_id = event.id;
        }
    }
    assert!(opened > 1, "the stream was never interrupted");
    seen
}

async fn a_stream_goes_on_without_loss_and_repetition_when_an_aggregator_is_killed(backend: Backend) {
    let mut system: System = Setup::new(backend).start().await;
    let following = tokio::spawn(follow(system.base(), 600));
    for round in 0..6_u64 {
        let first = round * 100;
        if round == 3 {
            system.aggregators[0].kill();
            system.aggregators[0].start().await;
        }
        system.publish_and_wait(first, &events("t", first..first + 100)).await;
    }
    let mut seen = tokio::time::timeout(Duration::from_secs(60), following).await.expect("the events").unwrap();
    let mut stored = Vec::new();
    let page = system.client.get_json("/events?order=asc&limit=1000").await;
    stored.extend(ids(page["events"].as_array().unwrap()).into_iter().map(str::to_owned));
    assert_eq!(seen, stored);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 600);
}

async fn what_the_feed_is_asked_wrongly_is_refused(backend: Backend) {
    let system = system(backend).await;
    for (path, field) in [
        ("/events?order=up", "order"),
        ("/events?order=asc&after=s1", "after"),
        ("/events?order=asc&since=2026-01-01T00:00:00Z", "since"),
        ("/events?order=asc&cursor=s1", "cursor"),
        ("/events?after=start", "after"),
        ("/events/tail?after=s1", "after"),
        ("/events/tail?limit=1", "limit"),
    ] {
        let problem = system.client.get(path).await.assert_problem(400, "invalid_query");
        assert_eq!(problem["field"], field, "{path}: {problem}");
    }
    let refused = EventStream::open(&system.client, "/events/tail", Some("7")).await.err().expect("it is refused");
    assert!(refused.starts_with("400") && refused.contains("Last-Event-ID"), "{refused}");
}
