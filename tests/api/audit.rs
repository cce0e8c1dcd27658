//! The command that accounts for every event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_tests::audit::{Audit, exact, run, run_with};
use sluice_tests::store::StoreAddress;
use sluice_tests::{Backend, Setup, System};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::common::{event, events, system};

on_both_backends!(
    a_system_is_accounted_for_to_the_last_event_while_it_runs_and_at_rest,
    a_system_under_load_is_accounted_for_at_any_time,
    a_row_that_is_missing_is_a_difference,
    a_row_that_does_not_match_its_hashes_is_a_difference_if_rows_are_checked,
    a_counter_that_was_changed_is_a_difference,
    events_that_were_counted_twice_are_a_difference,
    an_audit_trail_that_lacks_a_row_is_a_difference,
);

/// Runs a statement on the database itself. `%` stands for the schema.
async fn change(system: &System, sql: &str) {
    match &system.store {
        StoreAddress::Postgres { url, schema } => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            // Payloads cannot be changed through the view.
            let sql = sql.replace("%events", "%event_rows").replace('%', &format!("\"{schema}\"."));
            let changed = connection.execute(AssertSqlSafe(sql)).await.unwrap();
            assert_eq!(changed.rows_affected(), 1);
        }
        StoreAddress::Sqlite(path) => {
            let mut connection = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
            let changed = connection.execute(AssertSqlSafe(sql.replace('%', ""))).await.unwrap();
            assert_eq!(changed.rows_affected(), 1);
            connection.close().await.unwrap();
        }
    }
}

/// Runs the audit, which must find a difference in this check and in no other.
async fn differs(system: &System, check: &str) {
    assert_differs(&run(system).await, check);
}

fn assert_differs(Audit { code, report }: &Audit, check: &str) {
    assert_eq!((*code, &report["verdict"]), (Some(1), &"different".into()), "{report:#}");
    let checks = report["checks"].as_array().unwrap().iter();
    let different: Vec<_> = checks.filter(|check| check["verdict"] != "exact").map(|check| &check["name"]).collect();
    assert_eq!(different, [check], "{report:#}");
}

async fn a_system_is_accounted_for_to_the_last_event_while_it_runs_and_at_rest(backend: Backend) {
    let mut system = system(backend).await;
    assert_eq!(exact(&system).await["log"]["appended"], 0);
    system.publish_and_wait(0, &events("a", 0..20)).await;
    system.publish_and_wait(20, &events("a", 10..30)).await;
    system.client.publish_keyed("k", &events("b", 0..5)).await.assert_status(202);
    system.client.publish_keyed("k", &events("b", 0..5)).await.assert_status(202);
    // The one after them is stored after them.
    system.publish_and_wait(45, &event("b", "last")).await;
    let running = exact(&system).await;
    for (name, expected) in [("received", 46), ("unique", 36), ("duplicates", 10), ("rows", 36), ("skipped", 5)] {
        assert_eq!(running["total"][name], expected, "{name}: {running:#}");
    }
    assert_eq!(running["topics"]["b"]["skipped"], 5, "{running:#}");
    assert_eq!((&running["log"]["appended"], &running["log"]["in_flight"]), (&51.into(), &0.into()), "{running:#}");

    for program in system.programs() {
        assert!(program.terminate().is_some_and(|status| status.success()));
    }
    assert_eq!(exact(&system).await, running);
}

async fn a_system_under_load_is_accounted_for_at_any_time(backend: Backend) {
    let system = Setup::new(backend).aggregators(2).start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3_u64)
        .map(|writer| {
            let (client, stop) = (system.client.clone(), stop.clone());
            tokio::spawn(async move {
                for round in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    // Each request is repeated, and half of its events are in the next one too.
                    let (key, first) = (format!("{writer}-{}", round / 2), round / 2 * 10);
                    let body = events(&format!("t{writer}"), first..first + 20);
                    client.publish_keyed(&key, &body).await.assert_status(202);
                }
            })
        })
        .collect();
    let mut received = Vec::new();
    for _ in 0..6 {
        let report = exact(&system).await;
        received.push(report["total"]["received"].as_u64().unwrap());
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(received.first() < received.last(), "nothing arrived while it was audited: {received:?}");
}

async fn a_row_that_is_missing_is_a_difference(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("a", 0..20)).await;
    exact(&system).await;
    change(&system, "DELETE FROM %events WHERE event_id = 'evt-7'").await;
    differs(&system, "topic a: unique = rows + removed").await;
}

async fn a_row_that_does_not_match_its_hashes_is_a_difference_if_rows_are_checked(backend: Backend) {
    let mut system = system(backend).await;
    system.publish_and_wait(0, &events("a", 0..20)).await;
    let intact = run_with(&system, &["--check-rows"]).await;
    let found = &intact.report["row_hashes"];
    assert_eq!((intact.code, &found["compared"], &found["damaged"]), (Some(0), &20.into(), &0.into()), "{intact:?}");

    change(&system, "UPDATE %events SET payload = '{\"n\":-1}' WHERE event_id = 'evt-7'").await;
    assert!(exact(&system).await["row_hashes"].is_null(), "only the option reads all rows");
    let running = run_with(&system, &["--check-rows"]).await;
    assert_differs(&running, "rows of events = their hashes");
    let example = &running.report["row_hashes"]["examples"][0];
    assert_eq!((&example["topic"], &example["event_id"]), (&"a".into(), &"evt-7".into()), "{running:?}");

    for program in system.programs() {
        assert!(program.terminate().is_some_and(|status| status.success()));
    }
    let at_rest = run_with(&system, &["--check-rows"]).await;
    assert_eq!(at_rest.report["row_hashes"], running.report["row_hashes"]);
}

async fn a_counter_that_was_changed_is_a_difference(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("a", 0..20)).await;
    system.publish_and_wait(20, &events("b", 0..20)).await;
    change(&system, "UPDATE %counters SET duplicate_dropped = 1 WHERE topic = 'b'").await;
    differs(&system, "topic b: received = unique + duplicates").await;
}

async fn events_that_were_counted_twice_are_a_difference(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("a", 0..20)).await;
    let twice = "UPDATE %counters SET received = received + 20, duplicate_dropped = duplicate_dropped + 20";
    change(&system, twice).await;
    differs(&system, "appended = received + dead-lettered + discarded + skipped + in flight").await;
}

async fn an_audit_trail_that_lacks_a_row_is_a_difference(backend: Backend) {
    let system = Setup::new(backend).aggregator("--audit", "true").start().await;
    system.publish_and_wait(0, &events("a", 0..2)).await;
    system.publish_and_wait(2, &events("a", 1..3)).await;
    let report = exact(&system).await;
    assert_eq!(report["trail"]["rows"], 1, "{report:#}");
    change(&system, "DELETE FROM %audit").await;
    differs(&system, "audited duplicates = rows of the audit trail + removed ones").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_counter_of_redis_is_unknown_and_not_a_difference() {
    let system = system(Backend::RedisPostgres).await;
    system.publish_and_wait(0, &events("a", 0..20)).await;
    let (url, prefix) = system.stream.clone().unwrap();
    let mut connection = sluice_tests::redis::connect(&url).await.unwrap();
    let deleted: u64 =
        redis::cmd("DEL").arg(format!("{prefix}:{{0}}:counts")).query_async(&mut connection).await.unwrap();
    assert_eq!(deleted, 1);
    let Audit { code, report } = run(&system).await;
    assert_eq!((code, &report["verdict"]), (Some(2), &"unknown".into()), "{report:#}");
}
