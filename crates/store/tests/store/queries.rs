//! The queries of the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_event::Event;
use sluice_store::{Counts, EventQuery, Statistics, StoredEvent};

use crate::batches::*;
use crate::stores::TestStore;

fn ids(events: &[StoredEvent]) -> Vec<&str> {
    events.iter().map(|event| &*event.event_id).collect()
}

fn of(limit: u32) -> EventQuery {
    EventQuery { limit, ..EventQuery::default() }
}

pub async fn events_are_listed_newest_first(test: TestStore) {
    test.commit(&batch_of(events(["b", "a", "c"]))).await;
    test.commit(&batch_of(events(["e", "a", "d"]))).await;
    let page = test.store.events(&of(10)).await.unwrap();
    assert_eq!(ids(&page.events), ["d", "e", "c", "a", "b"], "stream order, backwards");
    assert_eq!(page.next, None);
    let page = test.store.events(&of(2)).await.unwrap();
    assert_eq!(ids(&page.events), ["d", "e"]);
    let rest = test.store.events(&EventQuery { before: page.next, ..of(3) }).await.unwrap();
    assert_eq!(ids(&rest.events), ["c", "a", "b"]);
    assert_eq!(rest.next, None, "the last page is full, and the last");
}

pub async fn each_filter_holds_and_all_hold_together(test: TestStore) {
    let made = |topic, id: &str, source, time| Event { timestamp: at(time), ..from(source, event(topic, id, "0")) };
    test.commit(&batch_of(vec![
        made("a", "1", "x", "2026-01-01T00:00:00Z"),
        made("a", "2", "y", "2026-01-02T00:00:00Z"),
        made("b", "3", "x", "2026-01-03T00:00:00Z"),
        made("a", "4", "x", "2026-01-04T00:00:00Z"),
        event("b", "5", "0"),
    ]))
    .await;
    let (topic, source) = (Some("a".to_owned()), Some("x".to_owned()));
    let (since, until) = (Some(at("2026-01-02T00:00:00Z")), Some(at("2026-01-04T00:00:00Z")));
    let found = async |query: EventQuery| {
        let page = test.store.events(&query).await.unwrap();
        ids(&page.events).join("")
    };
    assert_eq!(found(EventQuery { topic: topic.clone(), ..of(9) }).await, "421");
    assert_eq!(found(EventQuery { source: source.clone(), ..of(9) }).await, "431");
    assert_eq!(found(EventQuery { since, ..of(9) }).await, "5432");
    assert_eq!(found(EventQuery { until, ..of(9) }).await, "321", "until is exclusive, since is not");
    assert_eq!(found(EventQuery { topic: topic.clone(), source: source.clone(), since, ..of(9) }).await, "4");
    assert_eq!(found(EventQuery { topic, source, since, until, ..of(9) }).await, "");
    assert_eq!(found(EventQuery { topic: Some("A".into()), ..of(9) }).await, "", "topics are told apart exactly");
}

pub async fn pages_neither_skip_nor_repeat_while_events_arrive(test: TestStore) {
    for round in 0..10 {
        test.commit(&batch_of((0..50).map(|i| event("t", format!("old-{}", round * 50 + i), "0")).collect())).await;
    }
    let test = Arc::new(test);
    let stop = Arc::new(AtomicBool::new(false));
    let arriving = tokio::spawn({
        let (test, stop) = (Arc::clone(&test), Arc::clone(&stop));
        async move {
            for round in 0.. {
                let new = (0..5).map(|i| event("t", format!("new-{round}-{i}"), "0")).collect();
                test.commit(&batch_of(new)).await;
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    });
    for topic in [None, Some("t".to_owned())] {
        let mut seen: Vec<String> = Vec::new();
        let mut query = EventQuery { topic, ..of(7) };
        loop {
            let page = test.store.events(&query).await.unwrap();
            seen.extend(page.events.into_iter().map(|event| event.event_id));
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        let old: Vec<_> = seen.iter().filter(|id| id.starts_with("old-")).collect();
        let expected: Vec<_> = (0..500).rev().map(|i| format!("old-{i}")).collect();
        assert!(old.iter().copied().eq(&expected), "each old event once and in order: {old:?}");
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), seen.len(), "nothing twice");
    }
    stop.store(true, Ordering::Relaxed);
    arriving.await.unwrap();
}

pub async fn the_same_id_in_two_topics_is_two_events(test: TestStore) {
    test.commit(&batch_of(vec![event("a", 1, "\"a\""), event("b", 1, "\"b\"")])).await;
    assert_eq!(test.store.event("a", "1", 9).await.unwrap()[0].payload, "\"a\"");
    assert_eq!(test.store.event("b", "1", 9).await.unwrap()[0].payload, "\"b\"");
    assert!(test.store.event("c", "1", 9).await.unwrap().is_empty());
}

pub async fn where_the_source_tells_events_apart_all_are_found(test: TestStore) {
    let test = test.another("topic,event_id,source".parse().unwrap()).await;
    let sent = vec![from("x", event("t", 1, "1")), from("y", event("t", 1, "2")), event("t", 1, "3")];
    assert_eq!(test.commit(&batch_of(sent)).await.counts.unique, 3);
    let found = test.store.event("t", "1", 9).await.unwrap();
    assert_eq!(found.iter().map(|e| &*e.payload).collect::<Vec<_>>(), ["1", "2", "3"], "first stored first");
    assert_eq!(test.store.event("t", "1", 1).await.unwrap()[0].payload, "1");
    let by_id_alone = test.another("event_id".parse().unwrap()).await;
    by_id_alone.commit(&batch_of(vec![event("a", 1, "1"), event("b", 1, "2")])).await;
    assert_eq!(by_id_alone.store.event("a", "1", 9).await.unwrap().len(), 1);
    assert!(by_id_alone.store.event("b", "1", 9).await.unwrap().is_empty(), "it was dropped as a duplicate");
}

pub async fn a_row_that_changed_on_the_disk_is_marked_and_the_others_are_not(test: TestStore) {
    let payload = |n: u32| format!("{{\"b\":{n}e2, \"a\":[\"\\u00e9\"]}}");
    test.commit(&batch_of((1..=5).map(|n| event("t", n, &payload(n))).collect())).await;
    let page = test.store.events(&of(10)).await.unwrap();
    assert!(page.events.len() == 5 && page.events.iter().all(|event| !event.damaged), "{page:?}");

    // What SQL changes is what a changed byte would change.
    let table = test.event_table();
    test.run(&format!("UPDATE {table} SET payload = '{{\"b\":2e3, \"a\":[\"\\u00e9\"]}}' WHERE event_id = '2'")).await;
    test.run(&format!("UPDATE {table} SET topic = 'u' WHERE event_id = '3'")).await;
    test.run(&format!("UPDATE {table} SET event_id = '5' WHERE event_id = '4'")).await;
    let page = test.store.events(&of(10)).await.unwrap();
    let marked: Vec<_> = page.events.iter().map(|event| (&*event.event_id, event.damaged)).collect();
    assert_eq!(marked, [("5", false), ("5", true), ("3", true), ("2", true), ("1", false)]);
    for (id, damaged) in [("1", false), ("2", true), ("3", true), ("4", true), ("5", false)] {
        let found = test.store.event("t", id, 1).await.unwrap();
        assert_eq!(found.iter().map(|event| event.damaged).collect::<Vec<_>>(), [damaged], "{id}");
    }
    assert_eq!(test.store.event("u", "3", 1).await.unwrap(), [], "its key is that of t/3");
}

pub async fn an_empty_store_answers_everything(test: TestStore) {
    test.store.ping().await.unwrap();
    assert_eq!(test.statistics().await, Statistics::default());
    assert!(test.store.events(&of(10)).await.unwrap().events.is_empty());
    assert!(test.store.event("t", "1", 10).await.unwrap().is_empty());
    assert!(test.store.dead_letters(None, 10).await.unwrap().is_empty());
}

pub async fn a_page_of_large_events_ends_early_and_goes_on(test: TestStore) {
    let payload = format!("\"{}\"", "x".repeat(250_000));
    test.commit(&batch_of((0..150).map(|id| event("t", id, &payload)).collect())).await;
    let mut query = of(1_000);
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let page = test.store.events(&query).await.unwrap();
        let bytes: usize = page.events.iter().map(|event| event.payload.len()).sum();
        assert!(bytes < 20_000_000, "a page of {bytes} bytes");
        seen.extend(page.events.into_iter().map(|event| event.event_id));
        pages += 1;
        query.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert!(seen.iter().eq(&(0..150).rev().map(|id| id.to_string()).collect::<Vec<_>>()), "{seen:?}");
    assert!(pages > 1, "{pages} pages");
}

pub async fn a_page_is_bounded_also_when_large_events_follow_small_ones(test: TestStore) {
    let payload = format!("\"{}\"", "x".repeat(250_000));
    test.commit(&batch_of((0..150).map(|id| event("t", id, &payload)).collect())).await;
    // The newest ones tell nothing about the size of the others.
    test.commit(&batch_of(events(150..250))).await;
    let mut query = of(1_000);
    let mut seen = Vec::new();
    loop {
        let page = test.store.events(&query).await.unwrap();
        let bytes: usize = page.events.iter().map(|event| event.payload.len()).sum();
        assert!(bytes <= 16 << 20, "a page of {bytes} bytes");
        seen.extend(page.events.into_iter().map(|event| event.event_id));
        query.before = page.next;
        if page.next.is_none() {
            break;
        }
        // A connection that was left in the middle of an answer serves nobody else.
        assert_eq!(test.counts().await.unique, 250);
    }
    assert!(seen.iter().eq(&(0..250).rev().map(|id| id.to_string()).collect::<Vec<_>>()), "{seen:?}");
}

pub async fn a_page_may_be_asked_to_end_at_fewer_bytes(test: TestStore) {
    let payload = format!("\"{}\"", "x".repeat(10_000));
    test.commit(&batch_of((0..30).map(|id| event("t", id, &payload)).collect())).await;
    let (mut query, mut seen) = (EventQuery { max_bytes: Some(100_000), ..of(1_000) }, 0);
    loop {
        let page = test.store.events(&query).await.unwrap();
        assert!(page.events.len() <= 9, "{} events of more than 10,000 bytes", page.events.len());
        seen += page.events.len();
        query.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(seen, 30);
}

pub async fn a_filter_without_an_index_finds_what_is_rare_and_ends_where_nothing_matches(test: TestStore) {
    for first in (0..30_000_u32).step_by(10_000) {
        let source = |id: u32| if id.is_multiple_of(7_000) { "rare" } else { "usual" };
        let batch = (first..first + 10_000).map(|id| from(source(id), event("t", id, "0")));
        test.commit(&batch_of(batch.collect())).await;
    }
    let all = async |query: EventQuery| {
        let (mut query, mut seen) = (query, Vec::new());
        loop {
            let page = test.store.events(&query).await.unwrap();
            seen.extend(page.events.into_iter().map(|event| event.event_id));
            query.before = page.next;
            if page.next.is_none() {
                return seen;
            }
        }
    };
    for topic in [None, Some("t".to_owned())] {
        let source = |source: &str| EventQuery { topic: topic.clone(), source: Some(source.into()), ..of(2) };
        assert_eq!(all(source("rare")).await, ["28000", "21000", "14000", "7000", "0"]);
        assert!(all(source("nobody")).await.is_empty());
        let never = Some(at("1990-01-01T00:00:00Z"));
        assert!(all(EventQuery { topic: topic.clone(), until: never, ..of(10) }).await.is_empty());
    }
}

pub async fn the_statistics_list_the_largest_topics_beside_exact_totals(test: TestStore) {
    let topic = |number: u32| event(&format!("topic-{number:02}"), 1, "0");
    // Topic 20 arrives twenty times, topic 19 nineteen times, and so on.
    let sent = (1..=20).flat_map(|number| (0..number).map(move |_| topic(number))).collect();
    test.commit(&batch_of(sent)).await;
    let statistics = test.store.statistics(3).await.unwrap();
    assert_eq!(statistics.topics.keys().collect::<Vec<_>>(), ["topic-18", "topic-19", "topic-20"]);
    assert_eq!(statistics.topics["topic-19"].received, 19);
    assert_eq!(statistics.total, Counts { received: 210, unique: 20, duplicates: 190, conflicts: 0 });
    assert_eq!(statistics.topic_count, 20);
    let without_topics = test.store.statistics(0).await.unwrap();
    assert_eq!(without_topics, Statistics { topics: BTreeMap::new(), ..statistics });
}

pub async fn topics_are_listed_in_pages_each_once(test: TestStore) {
    let names: Vec<_> = (0..25).map(|number| format!("topic-{number:02}")).collect();
    test.commit(&batch_of(names.iter().map(|name| event(name, 1, "0")).collect())).await;
    test.commit(&batch_of(vec![event("", 1, "0"), event("", 1, "0")])).await;
    let (mut after, mut listed, mut pages) = (None::<String>, Vec::new(), 0);
    loop {
        let page = test.store.topics(after.as_deref(), 13).await.unwrap();
        assert!(page.topics.len() <= 13);
        listed.extend(page.topics);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((listed[0].0.as_str(), listed[0].1.received), ("", 2), "the empty topic is one too");
    assert!(listed[1..].iter().map(|(topic, _)| topic).eq(&names), "{listed:?}");
    assert_eq!(pages, 2, "the second page is full, and the last");
}
