//! The simulator, including `--verify`, which compares the counts and the stored events with those it sent.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use sluice_tests::certificates::client_env;
use sluice_tests::store::StoreAddress;
use sluice_tests::{Backend, Setup, System, process, program};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::common::{counts, event, system};

on_both_backends!(
    events_20_000_of_which_30_percent_are_duplicates_verify,
    events_5_000_of_which_20_percent_are_duplicates_verify,
    events_10_000_without_duplicates_verify,
    events_1_000_in_bursts_verify,
    a_run_on_a_store_with_data_verifies,
    a_run_that_lost_a_row_exits_1_and_names_the_event,
    a_run_that_finds_what_it_never_sent_exits_1_and_names_the_event,
    a_file_of_events_is_published,
    a_file_with_an_invalid_event_exits_1,
);

/// Runs `simulate` to its end. Returns its exit code, the object on its standard output, and its standard error.
async fn simulate(system: &System, args: &str, input: &str) -> (Option<i32>, Value, String) {
    let mut command = process::command(&program::find("sluice-publisher"), None);
    command.args(["simulate", "--url", &system.base()]).args(args.split_whitespace());
    command.envs(client_env(&system.base()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn().expect("the simulator starts");
        // The program may end without having read all of its input.
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        child.wait_with_output().expect("the simulator ends")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("the task does not panic");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
    (output.status.code(), serde_json::from_str(&out).unwrap_or(Value::String(out.into_owned())), err)
}

/// Runs a verified simulation of so many events, of which about this share are duplicates.
async fn verified(system: &System, events: u64, duplicate: f64, more: &str) {
    let args = format!("--events {events} --duplicate {duplicate} --verify --verify-timeout 5m {more}");
    let before = counts(&system.client).await;
    let (code, tally, err) = simulate(system, &args, "").await;
    assert_eq!(code, Some(0), "{tally}\n{err}");
    let number = |name: &str| tally[name].as_u64().unwrap_or_else(|| panic!("no {name}: {tally}"));
    assert_eq!((number("sent"), number("accepted")), (events, events), "{tally}");
    assert_eq!(number("unique") + number("duplicates"), events, "{tally}");
    let share = number("duplicates") as f64 / events as f64;
    assert!((share - duplicate).abs() < 0.05, "{share} of them are duplicates: {tally}");
    for name in ["seconds", "events_per_second"] {
        assert!(tally[name].as_f64().is_some_and(|value| value > 0.0), "{name}: {tally}");
    }
    // The report of the simulator agrees with the API.
    let after = counts(&system.client).await;
    let grown = [0, 1, 2].map(|i| after[i] - before[i]);
    assert_eq!(grown, [events, number("unique"), number("duplicates")]);
    let snapshot = system.wait_until_stored(after[0]).await;
    assert_eq!(snapshot.fault(), None);
}

async fn events_20_000_of_which_30_percent_are_duplicates_verify(backend: Backend) {
    let system = Setup::new(backend).aggregators(2).start().await;
    verified(&system, 20_000, 0.3, "--concurrency 8").await;
}

async fn events_5_000_of_which_20_percent_are_duplicates_verify(backend: Backend) {
    verified(&system(backend).await, 5_000, 0.2, "--topics 7 --seed 42").await;
}

async fn events_10_000_without_duplicates_verify(backend: Backend) {
    verified(&system(backend).await, 10_000, 0.0, "--batch 500").await;
}

async fn events_1_000_in_bursts_verify(backend: Backend) {
    verified(&system(backend).await, 1_000, 0.2, "--burst 200 --rate 2000 --batch 20").await;
}

async fn a_run_on_a_store_with_data_verifies(backend: Backend) {
    let system = system(backend).await;
    for _ in 0..2 {
        // The seed is the same. The id of each run makes its events different.
        verified(&system, 1_000, 0.3, "--seed 7").await;
    }
}

/// A failure that `--verify` must detect: the counts are right, and a row is missing.
async fn a_run_that_lost_a_row_exits_1_and_names_the_event(backend: Backend) {
    let system = system(backend).await;
    let lost = format!("{:016x}-7", 42);
    lose(&system, &lost).await;
    let args = "--events 200 --duplicate 0 --topics 1 --seed 42 --run-id losing --verify";
    let (code, tally, err) = simulate(&system, args, "").await;
    assert_eq!(code, Some(1), "{tally}\n{err}");
    assert_eq!((&tally["accepted"], &tally["verified"]), (&200.into(), &false.into()), "{tally}");
    let told = format!("sim-losing-0/{lost} is not stored");
    assert_eq!(tally["differences"], serde_json::json!([told]), "{err}");
}

async fn a_run_that_finds_what_it_never_sent_exits_1_and_names_the_event(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &event("sim-shared-0", "stranger")).await;
    let args = "--events 200 --duplicate 0.5 --topics 1 --run-id shared --verify";
    let (code, tally, err) = simulate(&system, args, "").await;
    assert_eq!(code, Some(1), "{tally}\n{err}");
    let told: Vec<_> = tally["differences"].as_array().expect("an array").iter().map(Value::to_string).collect();
    assert!(told.iter().any(|line| line.contains("sim-shared-0/stranger")), "the event: {tally}");
    assert!(told.iter().any(|line| line.contains("/stats of sim-shared-0")), "the numbers: {tally}");
    assert_eq!(told.len(), 2, "no other difference: {tally}");
}

/// Makes the database delete the row of one event in the same transaction that stores it.
async fn lose(system: &System, event_id: &str) {
    match &system.store {
        StoreAddress::Postgres { url, schema } => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let sql = format!(
                "CREATE FUNCTION \"{schema}\".lose() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN DELETE FROM \"{schema}\".events WHERE key = NEW.key; RETURN NULL; END $$; \
                 CREATE TRIGGER lose AFTER INSERT ON \"{schema}\".event_rows FOR EACH ROW \
                 WHEN (NEW.event_id = '{event_id}') EXECUTE FUNCTION \"{schema}\".lose()"
            );
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        StoreAddress::Sqlite(path) => {
            let mut connection = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
            let sql = format!(
                "CREATE TRIGGER lose AFTER INSERT ON events WHEN NEW.event_id = '{event_id}' \
                 BEGIN DELETE FROM events WHERE key = NEW.key; END"
            );
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

async fn a_file_of_events_is_published(backend: Backend) {
    let system = system(backend).await;
    let lines: Vec<_> = (0..250).map(|n| event("file", &(n % 200).to_string()).to_string()).collect();
    let (code, tally, err) = simulate(&system, "--file -", &lines.join("\n")).await;
    assert_eq!(code, Some(0), "{tally}\n{err}");
    let snapshot = system.wait_until_stored(250).await;
    assert_eq!((snapshot.unique, snapshot.duplicates, snapshot.rows), (200, 50, 200));
}

async fn a_file_with_an_invalid_event_exits_1(backend: Backend) {
    let system = system(backend).await;
    // A request that is refused permanently is not repeated.
    let (code, _, err) = simulate(&system, "--file -", "{\"no\":\"event\"}").await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("event_id"), "the error names the field: {err}");
}
