//! The statistics: the names of their fields, and that they are exact.

use serde_json::{Value, json};
use sluice_tests::system::CATCH_UP;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, wait_until};

use crate::common::{counts, event, events, system};

on_both_backends!(
    the_statistics_have_the_documented_keys,
    the_statistics_agree_with_the_rows,
    the_statistics_are_told_by_topic,
    topics_are_paged_and_the_statistics_list_as_many_as_asked_for,
    the_statistics_stay_as_they_are_while_nothing_arrives,
    the_uptime_grows,
    the_backlog_returns_to_zero,
);

async fn the_statistics_have_the_documented_keys(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &json!([event("orders", "1"), event("orders", "1")])).await;
    let stats = system.client.get_json("/stats").await;
    for name in ["received", "unique_processed", "duplicate_dropped", "conflicts", "dead_lettered", "backlog"] {
        assert!(stats[name].is_u64(), "{name}: {stats}");
    }
    for name in ["uptime", "uptime_seconds"] {
        assert!(stats[name].as_f64().is_some_and(|seconds| seconds >= 0.0), "{name}: {stats}");
    }
    assert_eq!(stats["uptime"], stats["uptime_seconds"]);
    assert!(stats.get("dedup_horizon").is_some(), "{stats}");
    for name in ["received", "unique_processed", "duplicate_dropped", "conflicts"] {
        assert!(stats["topics"]["orders"][name].is_u64(), "{name} of a topic: {stats}");
    }
    let consumers = stats["consumers"].as_array().expect("a list of consumers");
    assert!(!consumers.is_empty(), "{stats}");
    for name in ["name", "pending"] {
        assert!(consumers[0].get(name).is_some(), "{name} of a consumer: {stats}");
    }
}

async fn the_statistics_agree_with_the_rows(backend: Backend) {
    let system = system(backend).await;
    assert_eq!(counts(&system.client).await, [0, 0, 0]);
    let mut sent = 0;
    for round in 1..=5_u64 {
        sent += system.client.publish(&events("t", 0..round * 10)).await;
        let snapshot = system.wait_until_stored(sent).await;
        let unique = round * 10;
        assert_eq!(counts(&system.client).await, [sent, unique, sent - unique]);
        assert_eq!((snapshot.rows as u64, snapshot.fault()), (unique, None));
    }
}

async fn the_statistics_are_told_by_topic(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &json!([event("a", "1"), event("a", "1"), event("b", "1")])).await;
    let stats = system.client.get_json("/stats").await;
    let expected = json!({"received": 2, "unique_processed": 1, "duplicate_dropped": 1, "conflicts": 0});
    let topics = system.client.get_json("/topics").await;
    let listed = topics["topics"].as_array().expect("a list of topics");
    let names: Vec<_> = listed.iter().map(|topic| topic["topic"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    for (name, count) in expected.as_object().unwrap() {
        assert_eq!(&stats["topics"]["a"][name], count, "{stats}");
        assert_eq!(&listed[0][name], count, "{topics}");
    }
}

async fn topics_are_paged_and_the_statistics_list_as_many_as_asked_for(backend: Backend) {
    let system = system(backend).await;
    let sent: Value = (0..25).flat_map(|n| (0..=n % 3).map(move |_| event(&format!("topic-{n:02}"), "1"))).collect();
    system.publish_and_wait(0, &sent).await;
    let mut path = "/topics?limit=10".to_owned();
    let mut names = Vec::new();
    loop {
        let page = system.client.get_json(&path).await;
        names
            .extend(page["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/topics?limit=10&cursor={cursor}"),
            None => break,
        }
    }
    assert!(names.iter().eq(&(0..25).map(|n| format!("topic-{n:02}")).collect::<Vec<_>>()), "{names:?}");
    let stats = system.client.get_json("/stats?topics=2").await;
    assert_eq!((stats["topics"].as_object().unwrap().len(), &stats["topic_count"]), (2, &json!(25)), "{stats}");
    assert_eq!((&stats["received"], &stats["unique_processed"]), (&json!(49), &json!(25)), "{stats}");
    for path in ["/stats?topics=10001", "/stats?topics=x", "/stats?n=1", "/topics?limit=0", "/topics?cursor=s1"] {
        system.client.get(path).await.assert_problem(400, "invalid_query");
    }
}

async fn the_statistics_stay_as_they_are_while_nothing_arrives(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..100)).await;
    let first = counts(&system.client).await;
    for _ in 0..20 {
        assert_eq!(counts(&system.client).await, first);
        // Reading changes nothing either.
        system.client.get_json("/events").await;
    }
}

async fn the_uptime_grows(backend: Backend) {
    let system = system(backend).await;
    let uptime = async || system.client.get_json("/stats").await["uptime_seconds"].as_f64().unwrap();
    let first = uptime().await;
    wait_until("the uptime grows", CATCH_UP, || async {
        let now = uptime().await;
        holds(now > first, || format!("{now} after {first}"))
    })
    .await;
}

async fn the_backlog_returns_to_zero(backend: Backend) {
    let system = system(backend).await;
    for start in 0..20 {
        system.client.publish(&events("t", start * 500..start * 500 + 500)).await;
    }
    system.wait_until_stored(10_000).await;
    assert_eq!(system.client.get_json("/stats").await["backlog"], 0);
}
