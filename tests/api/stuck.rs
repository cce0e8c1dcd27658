//! Batches that cannot be stored: they are reported, and do not prevent that others are stored later.

use std::time::Duration;

use sluice_tests::store::StoreAddress;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, System, TableLock, metrics, wait_until};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::common::events;

const SOON: Duration = Duration::from_secs(180);

/// Returns a system of one replica with a claim time of two seconds: its statements may take a third of that.
async fn start() -> System {
    Setup::new(Backend::RedisPostgres).replica("--claim-after", "2s").start().await
}

/// Runs statements in the database; `%` is the schema of the system.
async fn run_sql(system: &System, sql: &str) {
    let StoreAddress::Postgres { url, schema } = &system.store else { unreachable!("it is in Postgres") };
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.replace('%', schema)))).await.unwrap();
}

/// Calls this PL/pgSQL statement for each row that is inserted into the table of events.
async fn on_each_row(system: &System, statement: &str) {
    let sql = format!(
        "CREATE FUNCTION \"%\".on_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement}; RETURN NEW; END $$; \
         CREATE TRIGGER on_row BEFORE INSERT ON \"%\".event_rows FOR EACH ROW EXECUTE FUNCTION \"%\".on_row()"
    );
    run_sql(system, &sql).await;
}

/// Waits until `/readyz` of the aggregator reports, with status 200, what is stuck, and the metric has its reason.
async fn is_reported(system: &System, text: &str, reason: &str) {
    let client = Client::new(&system.aggregators[0].base());
    wait_until("what is stuck is reported", SOON, || async {
        let answer = client.get("/readyz").await;
        let exposition = client.get("/metrics").await.text;
        let stuck = metrics::sum(&exposition, &format!("sluice_stuck_batches{{reason=\"{reason}\"}}"));
        let reported = answer.status == 200 && answer.text.contains(text) && stuck >= 1.0;
        holds(reported, || format!("{} {}, {stuck} batches", answer.status, answer.text))
    })
    .await;
    let exposition = client.get("/metrics").await.text;
    assert!(metrics::sum(&exposition, "sluice_oldest_uncommitted_batch_seconds") > 0.0);
    let log = system.aggregators[0].log();
    assert!(log.contains("cannot commit, trying again"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_the_database_is_reported_and_what_waits_is_stored_when_there_is_room() {
    let system = start().await;
    on_each_row(&system, "RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'").await;
    let sent = system.client.publish(&events("t", 0..10)).await;
    is_reported(&system, "the disk of the store is full", "disk_full").await;
    run_sql(&system, "DROP TRIGGER on_row ON \"%\".event_rows").await;
    assert_eq!(system.wait_until_stored(sent).await.rows, 10);
    let answer = Client::new(&system.aggregators[0].base()).get("/readyz").await;
    assert!(answer.status == 200 && !answer.text.contains("the disk of the store is full"), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_waits_for_a_lock_is_reported() {
    let system = start().await;
    let lock = TableLock::take(&system.store).await;
    let sent = system.client.publish(&events("t", 0..10)).await;
    is_reported(&system, "another transaction holds what it needs", "conflict").await;
    lock.release().await;
    assert_eq!(system.wait_until_stored(sent).await.rows, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pending_entries_are_stored_in_several_transactions_after_a_restart() {
    let mut system = start().await;
    system.aggregators[0].terminate();
    // In one transaction they would take longer than a statement may.
    on_each_row(&system, "PERFORM pg_sleep(0.0001)").await;
    let mut sent = 0;
    for request in 0..100 {
        sent += system.client.publish(&events("t", request * 200..(request + 1) * 200)).await;
    }
    system.stream().await.read_as("aggregator-0", 128).await.unwrap();
    system.aggregators[0].start().await;
    assert_eq!(system.wait_until_stored(sent).await.rows, 20_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_takes_too_long_is_stored_in_halves() {
    let mut system = start().await;
    system.aggregators[0].terminate();
    on_each_row(&system, "PERFORM pg_sleep(0.001)").await;
    let mut sent = 0;
    for request in 0..20 {
        sent += system.client.publish(&events("t", request * 100..(request + 1) * 100)).await;
    }
    system.aggregators[0].start().await;
    assert_eq!(system.wait_until_stored(sent).await.rows, 2_000);
    let log = system.aggregators[0].log();
    assert!(log.contains("stored in two halves"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_could_not_be_stored_before_several_restarts_are_not_put_aside() {
    let mut system = start().await;
    let lock = TableLock::take(&system.store).await;
    let sent = system.client.publish(&events("t", 0..10)).await;
    for _ in 0..8 {
        lock.holds_up("aggregator-0").await;
        assert!(system.aggregators[0].terminate().is_some_and(|status| status.success()));
        system.aggregators[0].start().await;
    }
    lock.release().await;
    let end = system.wait_until_stored(sent).await;
    assert_eq!((end.rows, end.dead_lettered), (10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_name_another_process_uses_warns() {
    let mut system = Setup::new(Backend::RedisPostgres).aggregators(2).start().await;
    assert!(!system.aggregators[1].log().contains("another process"), "two names");
    system.aggregators[1].terminate();
    system.aggregators[1].replace_option("--consumer", "aggregator-0");
    system.aggregators[1].start().await;
    wait_until("it warns", SOON, || async {
        let log = system.aggregators[1].log();
        holds(log.contains("another process reads the log under this name"), || log)
    })
    .await;
    // Nothing is lost or stored twice nevertheless.
    system.publish_and_wait(0, &events("t", 0..100)).await;
}
