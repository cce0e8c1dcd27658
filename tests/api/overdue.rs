//! The metrics of what maintenance should have done by now, and of the last audit.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_tests::audit::run_with;
use sluice_tests::store::StoreAddress;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, System, wait_until};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::common::{events, system};

on_both_backends!(
    what_the_retention_could_not_remove_is_in_the_metrics_and_in_the_overview,
    the_verdict_of_the_last_audit_that_was_noted_is_in_the_metrics,
);

const SOON: Duration = Duration::from_secs(60);

/// Runs statements on the database itself.
async fn execute(system: &System, of_postgres: &str, of_sqlite: &str) {
    match &system.store {
        StoreAddress::Postgres { url, schema } => {
            let mut connection = PgConnection::connect(url).await.expect("a connection");
            let sql = format!("SET search_path = \"{schema}\"; {of_postgres}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect(of_postgres);
        }
        StoreAddress::Sqlite(path) => {
            let mut connection = opened(path).await;
            sqlx::raw_sql(AssertSqlSafe(of_sqlite)).execute(&mut connection).await.expect(of_sqlite);
            connection.close().await.expect("closing");
        }
    }
}

async fn opened(path: &Path) -> sqlx::SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10));
    options.connect().await.expect("the file")
}

/// Waits until the one aggregator shows such a value.
async fn shows(system: &System, series: &str, is_right: impl Fn(f64) -> bool) {
    let client = Client::new(&system.aggregators[0].base());
    wait_until(&format!("the value of {series} is right"), SOON, || async {
        let text = client.get("/metrics").await.assert_status(200).text;
        let line = text.lines().find(|line| line.starts_with(&format!("{series} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        holds(value.is_some_and(&is_right), || format!("{line:?}"))
    })
    .await;
}

async fn what_the_retention_could_not_remove_is_in_the_metrics_and_in_the_overview(backend: Backend) {
    let system = Setup::new(backend).aggregator("--retention", "1d").start().await;
    system.publish_and_wait(0, &events("t", 0..10)).await;
    let overdue = "sluice_retention_overdue_seconds{what=\"events\"}";
    shows(&system, overdue, |seconds| seconds == 0.0).await;
    shows(&system, "sluice_partition_close_overdue_seconds", |seconds| seconds == 0.0).await;

    // Removing fails. Then two days pass, as the marks tell that maintenance would have made.
    execute(
        &system,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; \
         CREATE TRIGGER refuse BEFORE DELETE ON event_partitions FOR EACH ROW EXECUTE FUNCTION refuse(); \
         UPDATE event_partitions SET opened_at = opened_at - interval '2 days'",
        "CREATE TRIGGER refuse BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'no'); END; \
         UPDATE key_partitions SET opened_at = opened_at - 172800000000",
    )
    .await;
    shows(&system, "sluice_event_partitions", |partitions| partitions == 2.0).await;
    execute(
        &system,
        "UPDATE arrival_marks SET counts_from = counts_from - interval '2 days'; \
         INSERT INTO arrival_marks (batch, noted_at, counts_from) \
         SELECT last_batch(), at, at FROM (VALUES (now() - interval '2 days'), (now())) AS v (at)",
        "UPDATE arrival_marks SET counts_from = counts_from - 172800000000; \
         INSERT INTO arrival_marks (seq, noted_at, counts_from) \
         SELECT (SELECT max(seq) FROM events), at, at \
         FROM (SELECT unixepoch() * 1000000 - 172800000000 AS at UNION ALL SELECT unixepoch() * 1000000) ORDER BY at",
    )
    .await;
    shows(&system, overdue, |seconds| (86_400.0..87_000.0).contains(&seconds)).await;
    let notes = wait_until("the overview says it", SOON, || async {
        let notes = system.client.get_json("/overview").await["notes"].to_string();
        holds(notes.contains("the retention is behind"), || notes.clone()).map(|()| notes)
    })
    .await;
    assert!(notes.contains("events are still there that should have been removed 24 hours ago"), "{notes}");
    let text = Client::new(&system.aggregators[0].base()).get("/metrics").await.text;
    let has_tables = text.contains("sluice_retention_overdue_seconds{what=\"tables\"}");
    assert_eq!(has_tables, backend == Backend::RedisPostgres, "{text}");
}

async fn the_verdict_of_the_last_audit_that_was_noted_is_in_the_metrics(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..10)).await;
    let is = |verdict: &str| format!("sluice_last_audit_verdict{{verdict=\"{verdict}\"}}");
    shows(&system, &is("different"), f64::is_nan).await;
    shows(&system, "sluice_last_audit_timestamp_seconds", f64::is_nan).await;
    assert_eq!(run_with(&system, &["--record"]).await.code, Some(0));
    shows(&system, &is("exact"), |value| value == 1.0).await;
    let delete = |table: &str| format!("DELETE FROM {table} WHERE event_id = 'evt-3'");
    execute(&system, &delete("event_rows"), &delete("events")).await;
    assert_eq!(run_with(&system, &["--record"]).await.code, Some(1));
    for (verdict, value) in [("different", 1.0), ("exact", 0.0), ("unknown", 0.0)] {
        shows(&system, &is(verdict), |shown| shown == value).await;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs_f64();
    shows(&system, "sluice_last_audit_timestamp_seconds", |time| (now - 600.0..now + 60.0).contains(&time)).await;
}
