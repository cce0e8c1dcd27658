//! Pages that neither skip nor repeat events while new events arrive.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sluice_tests::system::CATCH_UP;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, wait_until};

use crate::common::{counts, events, system};

on_both_backends!(
    pages_hold_every_event_once_in_order,
    pages_neither_skip_nor_repeat_while_events_arrive,
    a_filter_holds_over_all_pages,
    large_events_are_listed_in_pages_of_bounded_size_in_both_forms,
);

/// Follows the cursor to the end, and returns the ids on each page.
async fn pages(client: &Client, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get_json(&format!("/events?{query}{cursor}")).await;
        let events = page["events"].as_array().expect("a list");
        pages.push(events.iter().map(|e| format!("{}/{}", e["topic"], e["event_id"]).replace('"', "")).collect());
        match &page["next_cursor"] {
            Value::Null => return pages,
            Value::String(next) => cursor = format!("&cursor={next}"),
            other => panic!("a cursor is a string: {other}"),
        }
        assert!(pages.len() < 10_000, "the pages do not end");
    }
}

async fn pages_hold_every_event_once_in_order(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..100)).await;
    let expected: Vec<_> = (0..100).rev().map(|n| format!("t/evt-{n}")).collect();
    for limit in [1, 7, 10, 33, 100, 1000] {
        let pages = pages(&system.client, &format!("limit={limit}")).await;
        assert_eq!(pages.concat(), expected, "limit={limit}");
        assert!(pages.iter().all(|page| page.len() <= limit));
        assert!(pages.len() <= 100_usize.div_ceil(limit) + 1, "limit={limit}: {} pages", pages.len());
    }
}

async fn pages_neither_skip_nor_repeat_while_events_arrive(backend: Backend) {
    // Several replicas and workers commit at the same time, in any order.
    let system = Setup::new(backend).aggregators(2).start().await;
    system.publish_and_wait(0, &events("before", 0..2_000)).await;

    let stop = Arc::new(AtomicBool::new(false));
    let arriving = (0..4_u64).map(|writer| {
        let (client, stop) = (system.client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::SeqCst) {
                sent += client.publish(&events(&format!("during-{writer}"), sent..sent + 25)).await;
            }
            sent
        })
    });
    let arriving: Vec<_> = arriving.collect();
    let mut arrived = 2_000;
    for limit in [50, 97, 250] {
        // Events arrive from now on until the writers are told to stop.
        arrived = wait_until("events arrive", CATCH_UP, || async {
            let [received, ..] = counts(&system.client).await;
            holds(received > arrived, || format!("{received} are received, as before")).map(|()| received)
        })
        .await;
        let seen = pages(&system.client, &format!("limit={limit}")).await.concat();
        let distinct: HashSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "limit={limit}: an event was repeated");
        let before: Vec<_> = seen.iter().filter(|id| id.starts_with("before/")).collect();
        let expected: Vec<_> = (0..2_000).rev().map(|n| format!("before/evt-{n}")).collect();
        assert!(before.iter().copied().eq(&expected), "limit={limit}: {} of 2,000 in order", before.len());
    }
    stop.store(true, Ordering::SeqCst);
    let mut sent = 2_000;
    for writer in arriving {
        sent += writer.await.unwrap();
    }
    assert!(sent >= arrived, "{sent} events are sent, and {arrived} were received");

    system.wait_until_stored(sent).await;
    let seen = pages(&system.client, "limit=1000").await.concat();
    let distinct: HashSet<_> = seen.iter().collect();
    assert_eq!((seen.len() as u64, distinct.len() as u64), (sent, sent), "every event once");
}

async fn a_filter_holds_over_all_pages(backend: Backend) {
    let system = system(backend).await;
    let mixed: Value = (0..90).map(|n| crate::common::event(["a", "b", "c"][n % 3], &n.to_string())).collect();
    system.publish_and_wait(0, &mixed).await;
    let pages = pages(&system.client, "topic=b&limit=7").await;
    assert_eq!(pages.len(), 5);
    let expected: Vec<_> = (0..90).rev().filter(|n| n % 3 == 1).map(|n| format!("b/{n}")).collect();
    assert_eq!(pages.concat(), expected);
}

/// A page is sent in pieces of a MiB: these are several pages of several pieces.
async fn large_events_are_listed_in_pages_of_bounded_size_in_both_forms(backend: Backend) {
    let system = system(backend).await;
    let text = "x".repeat(200 << 10);
    for start in [0, 25, 50, 75] {
        let large = |n: u64| json!({"topic": "t", "event_id": n.to_string(), "payload": text});
        system.publish_and_wait(start, &(start..start + 25).map(large).collect()).await;
    }
    let expected: Vec<_> = (0..100).rev().map(|n| format!("t/{n}")).collect();
    let pages = pages(&system.client, "limit=1000").await;
    assert_eq!(pages.concat(), expected);
    assert_eq!(pages.len(), 2, "20 MB are more than a page");

    let (mut seen, mut cursor, mut lines) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/events?limit=10000{cursor}");
        let request = system.client.request("GET", &path).header("Accept", "application/x-ndjson");
        let page = system.client.send(request).await.assert_status(200);
        assert!(page.text.len() < 17 << 20, "{} bytes", page.text.len());
        let events = page.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        seen.extend(events.map(|e| format!("{}/{}", e["topic"], e["event_id"]).replace('"', "")));
        lines += 1;
        match page.headers.get("x-next-cursor") {
            Some(next) => cursor = format!("&cursor={}", next.to_str().unwrap()),
            None => break,
        }
    }
    assert_eq!((seen, lines), (expected, 2));
}
