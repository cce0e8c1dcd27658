//! The programs from the point of view of a shell or an orchestrator: exit codes, settings, and the log.

use std::process::{Command, Output, Stdio};

use sluice_tests::certificates::client_env;
use sluice_tests::pgbouncer::PgBouncer;
use sluice_tests::postgres::PostgresServer;
use sluice_tests::store::StoreAddress;
use sluice_tests::{Backend, Setup, Snapshot, StoreReader, dirs, process, program};

use crate::common::{events, system};

on_both_backends!(
    healthcheck_tells_by_its_exit_code,
    settings_can_come_from_the_environment,
    a_server_says_where_it_listens,
);

/// Runs a program to its end.
async fn run(name: &'static str, args: Vec<String>) -> Output {
    tokio::task::spawn_blocking(move || {
        let mut command: Command = process::command(&program::find(name), None);
        command.envs(args.iter().flat_map(|arg| client_env(arg)));
        command.args(args).stdin(Stdio::null()).output().expect("the program runs")
    })
    .await
    .expect("the task does not panic")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

async fn healthcheck_tells_by_its_exit_code(backend: Backend) {
    let mut system = system(backend).await;
    let programs: Vec<_> = system.programs().map(|program| (program.binary_name(), program.base())).collect();
    for (name, base) in &programs {
        let output = run(name, words(&format!("healthcheck --url {base}"))).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    for program in system.programs() {
        program.kill();
    }
    for (name, base) in &programs {
        let output = run(name, words(&format!("healthcheck --url {base}"))).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

async fn settings_can_come_from_the_environment(backend: Backend) {
    let system = Setup::new(backend).env("SLUICE_MAX_EVENTS", "2").start().await;
    system.client.publish(&events("t", 0..2)).await;
    let answer = system.client.publish_raw(events("t", 0..3).to_string()).await;
    answer.assert_problem(413, "too_many_events");
}

async fn a_server_says_where_it_listens(backend: Backend) {
    let mut system = system(backend).await;
    for program in system.programs() {
        let address = program.address();
        let log = program.log();
        let said = log.lines().any(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("a log of JSON lines");
            line["fields"]["message"] == "listening" && line["fields"]["address"] == address.as_str()
        });
        assert!(said, "{log}");
    }
}

#[tokio::test]
async fn wrong_usage_exits_2_and_says_what_is_wrong() {
    for (name, args) in [
        ("sluice-publisher", ""),
        ("sluice-publisher", "serve --no-such-option"),
        ("sluice-publisher", "serve --redis-url redis://127.0.0.1:1 --query-url http://127.0.0.1:1 --max-events many"),
        ("sluice-aggregator", "no-such-command"),
        ("sluice-aggregator", "run --dedup-fields topic"),
        ("sluice-aggregator", "standalone --listen nowhere"),
        ("sluice-aggregator", "standalone --retention 0"),
        ("sluice-aggregator", "standalone --idempotency-ttl 10s --append-timeout 11s"),
        ("sluice-aggregator", "audit"),
        ("sluice-publisher", "serve --redis-url redis://127.0.0.1:1 --redis-ca /no/such/file"),
        ("sluice-publisher", "serve --redis-url redis://redis.example --require-tls"),
        ("sluice-publisher", "serve --redis-url redis://127.0.0.1:1 --query-url http://a.example --require-tls"),
        ("sluice-aggregator", "migrate --database-url postgres://127.0.0.1:1/x?sslmode=require&sslcert=/no/such/file"),
        ("sluice-aggregator", "migrate --database-url postgres://u:p@127.0.0.1:1/x --database-password-file /dev/null"),
        ("sluice-aggregator", "migrate --database-url postgres://127.0.0.1:1/x --database-password-file /no/such/file"),
        ("sluice-aggregator", "standalone --tls-cert /no/such/file --tls-key /no/such/file"),
        ("sluice-aggregator", "healthcheck --url https://127.0.0.1:1 --ca /no/such/file"),
        ("sluice-publisher", "serve --redis-url redis://127.0.0.1:1 --tls-key /no/such/file"),
        ("sluice-publisher", "serve --redis-url redis://127.0.0.1:1 --query-url http://a --query-ca /no/such/file"),
        ("sluice-publisher", "simulate --ca /no/such/file"),
    ] {
        let output = run(name, words(args)).await;
        assert_eq!(output.status.code(), Some(2), "{name} {args}: {output:?}");
        assert!(!output.stderr.is_empty(), "{name} {args}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_exits_1_and_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let data = dirs::fresh("taken").display().to_string();
    let output = run("sluice-aggregator", words(&format!("standalone --listen {address} --data {data}"))).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address.to_string()), "{output:?}");
}

#[tokio::test]
async fn a_data_folder_has_one_owner() {
    let system = system(Backend::Standalone).await;
    let data = system.dir.join("data").display().to_string();
    let output = run("sluice-aggregator", words(&format!("standalone --listen 127.0.0.1:0 --data {data}"))).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test]
async fn other_dedup_fields_over_stored_events_are_refused() {
    let mut system = system(Backend::Standalone).await;
    system.publish_and_wait(0, &events("t", 0..1)).await;
    system.aggregators[0].terminate();
    let data = system.dir.join("data").display().to_string();
    let args = format!("standalone --listen 127.0.0.1:0 --data {data} --dedup-fields event_id");
    let output = run("sluice-aggregator", words(&args)).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("dedup"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_makes_the_tables_and_may_be_repeated() {
    let setup = Setup::new(Backend::RedisPostgres);
    let (_, postgres) = setup.urls().await;
    let args = format!("migrate --database-url {postgres} --database-schema migrated");
    // Two programs that start at the same time wait for each other.
    let (first, second) = tokio::join!(run("sluice-aggregator", words(&args)), run("sluice-aggregator", words(&args)));
    for output in [first, second] {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let store = StoreAddress::Postgres { url: postgres, schema: "migrated".to_owned() };
    let snapshot = StoreReader::connect(&store).await.unwrap().snapshot().await.unwrap();
    assert_eq!(snapshot, Snapshot::default());
    let output = run("sluice-aggregator", words("migrate --database-url postgres://127.0.0.1:1/none")).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_is_not_in_session_mode_is_refused_and_one_that_is_works() {
    let server = tokio::task::spawn_blocking(|| PostgresServer::start(false)).await.expect("a server");
    for (mode, code) in [("session", 0), ("transaction", 1), ("statement", 1)] {
        let at = server.address();
        let pooler = tokio::task::spawn_blocking(move || PgBouncer::start(&at, mode)).await.expect("a pooler");
        let args = format!("migrate --database-url {} --database-schema {mode}_mode", pooler.url());
        let output = run("sluice-aggregator", words(&args)).await;
        assert_eq!(output.status.code(), Some(code), "{mode}: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr).contains("it must be in session mode");
        assert_eq!(told, code == 1, "{mode}: {output:?}");
    }
}

#[tokio::test]
async fn every_option_is_in_the_help_with_its_variable() {
    for (name, command) in [
        ("sluice-publisher", "serve"),
        ("sluice-publisher", "simulate"),
        ("sluice-publisher", "healthcheck"),
        ("sluice-aggregator", "run"),
        ("sluice-aggregator", "migrate"),
        ("sluice-aggregator", "standalone"),
        ("sluice-aggregator", "audit"),
        ("sluice-aggregator", "healthcheck"),
    ] {
        let output = run(name, vec![command.to_owned(), "--help".to_owned()]).await;
        assert_eq!(output.status.code(), Some(0), "{name} {command}");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let options = help.lines().filter_map(|line| line.trim_start().split("--").nth(1)?.split_whitespace().next());
        for option in options.filter(|&option| option != "help" && option != "version") {
            // An option follows its dashes at the beginning of a line. Other mentions have no value.
            let option = option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let variable = format!("SLUICE_{}", option.replace('-', "_").to_uppercase());
            let listed = help.lines().any(|line| line.trim_start().starts_with(&format!("--{option}")));
            assert!(!listed || help.contains(&variable) || help.contains("[env: SLUICE_"), "{variable} in {help}");
        }
    }
}
