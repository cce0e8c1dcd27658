//! The statistics: the names of their fields, and that they are exact.

use serde_json::{Value, json};
use sluice_tests::system::CATCH_UP;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, System, wait_until};

use crate::common::{counts, event, events, system};

on_both_backends!(
    the_statistics_have_the_documented_keys,
    the_statistics_agree_with_the_rows,
    the_statistics_are_told_by_topic,
    topics_are_paged_and_the_statistics_list_as_many_as_asked_for,
    the_statistics_stay_as_they_are_while_nothing_arrives,
    the_uptime_grows,
    the_backlog_returns_to_zero,
    series_have_every_window_and_add_up_to_the_statistics,
    series_begin_where_the_time_zone_says,
    questions_about_series_that_cannot_be_answered_name_the_parameter,
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

/// Returns the windows of `GET /stats/series` with this query, which must succeed.
async fn windows(system: &System, query: &str) -> Vec<Value> {
    let answer = system.client.get_json(&format!("/stats/series{query}")).await;
    answer["series"].as_array().unwrap_or_else(|| panic!("no series: {answer}")).clone()
}

fn sum(windows: &[Value], name: &str) -> u64 {
    windows.iter().map(|window| window[name].as_u64().unwrap_or_else(|| panic!("no number {name}: {window}"))).sum()
}

async fn series_have_every_window_and_add_up_to_the_statistics(backend: Backend) {
    let system = system(backend).await;
    let sent = json!([event("a", "1"), event("a", "1"), event("a", "2"), event("b", "1")]);
    system.publish_and_wait(0, &sent).await;
    for window in ["minute", "hour", "day", "week", "month"] {
        let all = windows(&system, &format!("?window={window}")).await;
        assert_eq!(
            ["received", "unique_processed", "duplicate_dropped", "conflicts", "dead_lettered"].map(|n| sum(&all, n)),
            [4, 3, 1, 0, 0],
            "{window}: {all:?}"
        );
        let of_b = windows(&system, &format!("?window={window}&topic=b")).await;
        assert_eq!((of_b.len(), sum(&of_b, "received")), (all.len(), 1), "{window}: {of_b:?}");
        assert!(all.windows(2).all(|pair| pair[0]["end"] == pair[1]["start"]), "{window}: {all:?}");
    }
    let hours = windows(&system, "").await;
    assert!((24..=25).contains(&hours.len()), "a day by hours: {hours:?}");
    assert_eq!(sum(&windows(&system, "?to=2026-01-01T00:00:00Z").await, "received"), 0, "before anything was sent");
}

async fn series_begin_where_the_time_zone_says(backend: Backend) {
    let system = system(backend).await;
    let berlin = "?from=2026-03-28T12:00:00Z&to=2026-03-30T00:00:00Z&window=day&tz=Europe/Berlin";
    let answer = system.client.get_json(&format!("/stats/series{berlin}")).await;
    assert_eq!((&answer["window"], &answer["tz"]), (&json!("day"), &json!("Europe/Berlin")), "{answer}");
    let starts: Vec<_> = answer["series"].as_array().expect("series").iter().map(|window| &window["start"]).collect();
    // The clock is set forward on the 29th.
    assert_eq!(starts, ["2026-03-28T00:00:00+01:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"]);
}

async fn questions_about_series_that_cannot_be_answered_name_the_parameter(backend: Backend) {
    let system = system(backend).await;
    for (query, parameter) in [
        ("window=second", "window"),
        ("tz=Europe/Atlantis", "tz"),
        ("tz=", "tz"),
        ("from=yesterday", "from"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z&window=month", "from"),
        ("from=2026-01-01T00:00:00Z&to=2026-01-09T00:00:00Z&window=minute", "window"),
        ("to=9999-12-31T23:59:59Z&window=month", "to"),
        ("topics=a", "topics"),
        ("topic=a&topic=b", "topic"),
    ] {
        let problem = system.client.get(&format!("/stats/series?{query}")).await.assert_problem(400, "invalid_query");
        assert_eq!(problem["field"], parameter, "{query}: {problem}");
    }
    assert_eq!(windows(&system, "?from=0001-01-01T00:00:00Z&to=0001-01-03T00:00:00Z&window=day").await.len(), 2);
}
