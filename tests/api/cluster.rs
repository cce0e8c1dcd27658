//! Tests that apply only to the system of several processes: replicas, streams, and components that stop
//! independently.

use std::time::Duration;

use serde_json::json;
use sluice_tests::store::StoreAddress;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, System, wait_until};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::common::{events, ids, list};

const SOON: Duration = Duration::from_secs(180);

async fn start(replicas: usize, options: &[(&str, &str)]) -> System {
    let setup = Setup::new(Backend::RedisPostgres).aggregators(replicas);
    options.iter().fold(setup, |setup, (option, value)| setup.replica(option, value)).start().await
}

/// Waits until the group has exactly these consumers.
async fn consumers(system: &System, expected: &[&str]) {
    let stream = system.stream().await;
    wait_until(&format!("the group's consumers are {expected:?}"), SOON, || {
        let mut stream = stream.clone();
        async move {
            let mut names = stream.consumers().await.map_err(|e| e.to_string())?;
            names.sort_unstable();
            holds(names == expected, || format!("{names:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_over_several_streams_and_a_lowered_number_of_them_loses_none() {
    let setup = Setup::new(Backend::RedisPostgres).aggregators(2);
    let mut system = setup.publisher("--streams", "4").replica("--streams", "4").start().await;
    let mut sent = 0;
    for _ in 0..30 {
        sent += system.client.publish(&events("t", 0..20)).await;
    }
    let snapshot = system.wait_until_stored(sent).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.rows), (600, 20, 20));

    // All four streams contain entries while no aggregator reads, and then new entries arrive in one of them
    // only.
    for aggregator in &mut system.aggregators {
        aggregator.terminate();
    }
    for start in 0..30 {
        let body = events("waiting", start * 10..start * 10 + 10);
        sent += system.client.publish(&body).await;
    }
    let publisher = system.publisher.as_mut().unwrap();
    publisher.terminate();
    publisher.replace_option("--streams", "1");
    publisher.start().await;
    for aggregator in &mut system.aggregators {
        aggregator.replace_option("--streams", "1");
        aggregator.start().await;
    }
    sent += system.client.publish(&events("after", 0..10)).await;
    let snapshot = system.wait_until_stored(sent).await;
    assert_eq!((snapshot.rows, snapshot.fault()), (330, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stops_leaves_the_group_and_one_that_was_killed_is_removed() {
    let mut system = start(3, &[("--consumer-ttl", "2s"), ("--claim-after", "2s")]).await;
    consumers(&system, &["aggregator-0", "aggregator-1", "aggregator-2"]).await;
    assert!(system.aggregators[1].terminate().is_some_and(|status| status.success()));
    consumers(&system, &["aggregator-0", "aggregator-2"]).await;
    system.aggregators[2].kill();
    consumers(&system, &["aggregator-0"]).await;
    system.publish_and_wait(0, &events("t", 0..100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_entries_are_trimmed_after_the_replay_window() {
    let system = start(2, &[("--replay-window", "1s")]).await;
    let mut sent = 0;
    for start in 0..50 {
        sent += system.client.publish(&events("t", start * 100..start * 100 + 100)).await;
    }
    system.wait_until_stored(sent).await;
    let stream = system.stream().await;
    wait_until("the stream is empty", SOON, || {
        let mut stream = stream.clone();
        async move {
            let length = stream.length().await.map_err(|e| e.to_string())?;
            holds(length == 0, || format!("{length} entries"))
        }
    })
    .await;
    // An empty stream does not mean that the deduplication state is empty.
    let snapshot = system.publish_and_wait(sent, &events("t", 0..100)).await;
    assert_eq!((snapshot.duplicates, snapshot.rows), (100, 5_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_aggregator_events_are_taken_and_questions_are_answered_503() {
    let mut system = start(1, &[]).await;
    system.aggregators[0].kill();
    system.client.publish(&events("t", 0..10)).await;
    for path in ["/stats", "/events", "/topics", "/dead-letters", "/events/t/evt-1"] {
        let answer = system.client.get(path).await;
        answer.assert_problem(503, "query_unavailable");
        assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    }
    system.client.get("/readyz").await.assert_status(200);
    system.aggregators[0].start().await;
    assert_eq!(system.wait_until_stored(10).await.rows, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_was_removed_while_its_replica_was_away_is_counted_as_lost() {
    let mut system = start(1, &[]).await;
    system.aggregators[0].terminate();
    system.client.publish(&events("t", 0..10)).await;
    // The entry is delivered to the replica, which crashes; then somebody trims the stream by hand.
    let (url, prefix) = system.stream.clone().unwrap();
    let stream = format!("{prefix}:{{0}}");
    let mut connection = sluice_tests::redis::connect(&url).await.unwrap();
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg("aggregators").arg(system.aggregators[0].name()).arg("STREAMS").arg(&stream).arg(">");
    read.query_async::<redis::Value>(&mut connection).await.unwrap();
    redis::cmd("XTRIM").arg(&stream).arg("MAXLEN").arg(0).query_async::<u64>(&mut connection).await.unwrap();

    system.aggregators[0].start().await;
    wait_until("the lost entry is counted", SOON, || async {
        let lost = system.aggregator_metric("sluice_entries_lost_total").await;
        // The replica finds it among its own pending entries, and again when it looks for entries to claim.
        holds(lost == 1 || lost == 2, || format!("{lost} are lost"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jsonb_store_puts_aside_what_jsonb_cannot_hold() {
    let system = start(1, &[("--payload-type", "jsonb")]).await;
    // JSON allows numbers of any length, but jsonb does not allow so many digits after the decimal point.
    let number = format!("0.{}1", "0".repeat(20_000));
    let body = format!(
        r#"[{{"id":"1","payload":{{"b":1,"a":[2.50]}}}},{{"id":"2","payload":{number}}},{{"id":"3","payload":"x"}}]"#
    );
    system.client.publish_raw(body).await.assert_status(202);
    let snapshot = system.wait_until_stored(3).await;
    assert_eq!((snapshot.received, snapshot.rows, snapshot.dead_lettered), (2, 2, 1));
    assert_eq!(system.dead_letters(1).await[0]["event_id"], "2");
    assert_eq!(ids(&list(&system.client, "").await), ["3", "1"]);
    assert_eq!(system.client.get_json("/events/default/1").await["payload"], json!({"a": [2.50], "b": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_entry_killed_its_readers_is_recognised_when_it_is_sent_again() {
    let mut system = start(1, &[]).await;
    system.aggregators[0].kill();
    system.client.publish_keyed("k", &events("t", 0..5)).await.assert_status(202);
    look_as_if_it_had_killed_its_readers(&system, "aggregator-0").await;
    system.aggregators[0].start().await;
    let dead_letter = &system.dead_letters(1).await[0];
    assert_eq!((&dead_letter["code"], &dead_letter["events"]), (&json!("kills_its_reader"), &json!(5)));

    system.client.publish_keyed("k", &events("t", 0..5)).await.assert_status(202);
    let snapshot = system.wait_until_stored(5).await;
    assert_eq!((snapshot.received, snapshot.dead_lettered), (0, 5), "accepted = received + dead-lettered");
    system.client.post(&format!("/dead-letters/{}/replay", dead_letter["id"])).await.assert_status(200);
    let snapshot = system.wait_until_stored(5).await;
    assert_eq!((snapshot.received, snapshot.rows, snapshot.dead_lettered), (5, 5, 0));
}

/// Delivers the one entry of the stream to a consumer as often as if it had died each time, with all its attempts
/// marked.
async fn look_as_if_it_had_killed_its_readers(system: &System, consumer: &str) {
    let (url, prefix) = system.stream.clone().unwrap();
    let (stream, group) = (format!("{prefix}:{{0}}"), "aggregators");
    let mut redis = sluice_tests::redis::connect(&url).await.unwrap();
    let read_from = |start: &str| {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(consumer).arg("STREAMS").arg(&stream).arg(start);
        read
    };
    // The replica may have been killed before it created the group.
    let mut create = redis::cmd("XGROUP");
    let created = create.arg("CREATE").arg(&stream).arg(group).arg(0).query_async::<redis::Value>(&mut redis).await;
    assert!(created.is_ok() || created.is_err_and(|error| error.code() == Some("BUSYGROUP")), "the group is there");
    // The blocked read of the killed replica may have taken the entry already: then it is pending for its consumer too.
    read_from(">").query_async::<redis::Value>(&mut redis).await.unwrap();
    let read: redis::streams::StreamReadReply = read_from("0").query_async(&mut redis).await.unwrap();
    let id = &read.keys[0].ids[0].id;
    let mut claim = redis::cmd("XCLAIM");
    claim.arg(&stream).arg(group).arg(consumer).arg(0).arg(id).arg("RETRYCOUNT").arg(9).arg("JUSTID");
    let claimed: Vec<String> = claim.query_async(&mut redis).await.unwrap();
    assert_eq!(claimed, std::slice::from_ref(id));
    let StoreAddress::Postgres { url, schema } = &system.store else { panic!("PostgreSQL") };
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mark = format!("INSERT INTO \"{schema}\".attempts (position, attempts) VALUES ('0/{id}', 3)");
    connection.execute(AssertSqlSafe(mark)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_through_two_replicas_counts_once() {
    // The first request is stored before the second arrives, whichever replica reads it.
    let system = start(3, &[]).await;
    for _ in 0..30 {
        system.client.publish_keyed("one-request", &events("t", 0..10)).await.assert_status(202);
        system.wait_until_stored(10).await;
    }
    assert_eq!(system.aggregator_metric("sluice_receipts_skipped_total").await, 29);
}
