//! What maintenance should have done by now, and what an audit has found.

use std::time::Duration;

use sluice_tests::audit::run_with;
use sluice_tests::store::StoreAddress;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Load, Setup, System, wait_until};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::events::{event, execute};
use crate::monitoring::Monitoring;
use crate::servers::GENTLE;

const SOON: Duration = Duration::from_secs(120);
/// A function of the database for triggers that make a statement fail.
const REFUSE: &str =
    "CREATE FUNCTION @.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'";

/// Opens a transaction that somebody forgets, or that takes long, and begins it with this statement.
async fn transaction(system: &System, sql: &str) -> PgConnection {
    let StoreAddress::Postgres { url, schema } = &system.store else { unreachable!("it is in Postgres") };
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("a transaction");
    connection.execute(AssertSqlSafe(sql.replace('@', &format!("\"{schema}\"")))).await.expect("a statement");
    connection
}

/// Waits until `/overview` says this, or does not say it any more.
async fn overview_says(system: &System, what: &str, is_said: bool) {
    wait_until(&format!("the overview says {what:?}: {is_said}"), SOON, || async {
        let notes = system.client.get_json("/overview").await["notes"].to_string();
        holds(notes.contains(what) == is_said, || notes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_finds_that_somebody_has_deleted_a_row() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).start().await;
    let watch = Monitoring::of(&mut system).await;
    system.publish_and_wait(0, &event("t", "1", "a")).await;
    let audit = async || run_with(&system, &["--record"]).await.code;
    assert_eq!(audit().await, Some(0));
    execute(&system, "CREATE TABLE @.deleted AS SELECT * FROM @.event_rows").await;
    execute(&system, "DELETE FROM @.event_rows").await;
    assert_eq!(run_with(&system, &[]).await.code, Some(1), "this one is not noted");
    watch.has_not_fired("SluiceAuditDiffers");
    assert_eq!(audit().await, Some(1));
    watch.fires("SluiceAuditDiffers", &[("severity", "critical")]).await;
    execute(&system, "INSERT INTO @.event_rows SELECT * FROM @.deleted").await;
    assert_eq!(audit().await, Some(0));
    watch.ends("SluiceAuditDiffers", &[]).await;
}

/// First a trigger that somebody has made keeps a partition from being removed, and then a dump its table from being dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_then_their_table_are_there_for_longer_than_the_retention() {
    let setup = Setup::without_tls(Backend::RedisPostgres).aggregator("--retention", "1d");
    let mut system = setup.start().await;
    let watch = Monitoring::of(&mut system).await;
    system.publish_and_wait(0, &event("t", "1", "a")).await;
    execute(&system, REFUSE).await;
    let trigger = "CREATE TRIGGER refuse BEFORE DELETE ON @.event_partitions FOR EACH ROW EXECUTE FUNCTION @.refuse()";
    execute(&system, trigger).await;
    execute(&system, "UPDATE @.event_partitions SET opened_at = opened_at - interval '2 days'").await;
    wait_until("the partition is closed", SOON, || async {
        let metrics = system.aggregator_metric("sluice_event_partitions").await;
        holds(metrics == 2, || format!("{metrics} partitions"))
    })
    .await;
    watch.has_not_fired("SluiceRetentionBehind");
    // Two days pass, as the marks tell that maintenance would have made.
    let time_passes = "INSERT INTO @.arrival_marks (batch, noted_at, counts_from) \
                       SELECT last_value, at, at FROM @.batches, (VALUES (now() - interval '2 days'), (now())) AS v (at)";
    execute(
        &system,
        &format!("UPDATE @.arrival_marks SET counts_from = counts_from - interval '2 days'; {time_passes}"),
    )
    .await;
    watch.fires("SluiceRetentionBehind", &[("what", "events")]).await;
    overview_says(&system, "events are still there that should have been removed 24 hours ago", true).await;

    let dump = transaction(&system, "SELECT count(*) FROM @.event_rows").await;
    execute(&system, "DROP TRIGGER refuse ON @.event_partitions").await;
    watch.ends("SluiceRetentionBehind", &[("what", "events")]).await;
    watch.fires("SluiceRetentionBehind", &[("what", "tables")]).await;
    overview_says(&system, "a table of removed events still takes up the disk", true).await;
    dump.close().await.expect("the dump ends");
    watch.ends("SluiceRetentionBehind", &[("what", "tables")]).await;
    overview_says(&system, "the retention is behind", false).await;
}

/// A transaction that somebody has left open holds a lock that closing needs. Batches do not need it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_cannot_be_closed() {
    let setup = Setup::without_tls(Backend::RedisPostgres).aggregator("--retention", "1d");
    let mut system = setup.start().await;
    let watch = Monitoring::of(&mut system).await;
    system.publish_and_wait(0, &event("t", "1", "a")).await;
    let forgotten = transaction(&system, "LOCK TABLE @.receipts IN ROW EXCLUSIVE MODE").await;
    execute(&system, "UPDATE @.event_partitions SET opened_at = opened_at - interval '1 day'").await;
    watch.fires("SluicePartitionNotClosed", &[]).await;
    overview_says(&system, "a partition of events should have been closed 21 hours ago", true).await;
    system.publish_and_wait(1, &event("t", "2", "a")).await;
    forgotten.close().await.expect("it ends");
    watch.ends("SluicePartitionNotClosed", &[]).await;
    overview_says(&system, "a partition of events", false).await;
}

/// 2,000 events close a partition in these tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_of_a_partition_cannot_be_built() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).start().await;
    let watch = Monitoring::of(&mut system).await;
    execute(&system, REFUSE).await;
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON @.event_filters FOR EACH ROW EXECUTE FUNCTION @.refuse()";
    execute(&system, trigger).await;
    let load = Load::start(&system.base(), GENTLE);
    load.more(5_000).await;
    load.stop().await;
    watch.fires("SluicePartitionsWithoutFilter", &[]).await;
    execute(&system, "DROP TRIGGER refuse ON @.event_filters").await;
    watch.ends("SluicePartitionsWithoutFilter", &[]).await;
}
