//! The file of tokens: what the programs do with it, and who uses the tokens.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use sluice_tests::certificates::client_env;
use sluice_tests::redis::RedisServer;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, dirs, process, program, wait_until};

use super::{TokenFile, make, setup, start};
use crate::common::{counts, event, system};

on_both_backends!(
    the_same_key_of_two_clients_is_two_requests_and_of_one_client_with_two_tokens_is_one,
    a_client_that_waits_until_its_request_is_stored_is_answered_with_its_own_token,
    the_name_of_the_client_is_in_the_log,
    the_simulator_publishes_and_verifies_with_a_token,
    without_authentication_a_token_is_ignored,
);

async fn the_same_key_of_two_clients_is_two_requests_and_of_one_client_with_two_tokens_is_one(backend: Backend) {
    let file = TokenFile::new();
    let shop = file.add("--name shop --scope publish --scope read").await;
    let next = file.add("--name shop --scope publish").await;
    let other = file.add("--name other --scope publish").await;
    let mut system = start(backend, &file).await;
    let nobody = system.client.clone();
    system.client = nobody.with_token(&shop);
    let published = |token: &str, body| {
        let client = nobody.with_token(token);
        async move { client.publish_keyed("one-key", &body).await }
    };
    let (first, second) = (event("t", "first"), event("t", "second"));
    published(&shop, first.clone()).await.assert_status(202);
    // The client `other` may use the key for something else, and the client `shop` may not.
    published(&other, second.clone()).await.assert_status(202);
    published(&shop, second.clone()).await.assert_problem(422, "idempotency_key_reused");
    published(&next, second).await.assert_problem(422, "idempotency_key_reused");
    // A repetition under the other token of the client is the same request, and counts nothing.
    published(&next, first).await.assert_status(202);
    system.wait_until_stored(2).await;
    assert_eq!(counts(&system.client).await, [2, 2, 0]);
}

async fn a_client_that_waits_until_its_request_is_stored_is_answered_with_its_own_token(backend: Backend) {
    let file = TokenFile::new();
    let token = file.add("--name shop --scope publish --topic t").await;
    let system = start(backend, &file).await;
    let client = system.client.with_token(&token);
    let request = client.request("POST", "/publish?wait=stored").header("Content-Type", "application/json");
    let answer = client.send(request.body(event("t", "1").to_string())).await.assert_status(200);
    assert_eq!(answer.json()["stored"], 1);
}

async fn the_name_of_the_client_is_in_the_log(backend: Backend) {
    let file = TokenFile::new();
    let token = file.add("--name the-shop --scope publish").await;
    let mut system = start(backend, &file).await;
    let client = system.client.with_token(&token);
    client.publish_raw("{}").await.assert_problem(422, "invalid_event");
    client.get("/stats").await.assert_problem(403, "missing_scope");
    let said = |line: &str, code: &str, path: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a log of JSON lines");
        let span = &line["span"];
        line["fields"]["code"] == code && span["subject"] == "the-shop" && span["path"] == path
    };
    for (code, path) in [("invalid_event", "/publish"), ("missing_scope", "/stats")] {
        // Lines are written on a thread of their own.
        wait_until("the log has the name", Duration::from_secs(60), || {
            let log = system.ingest().log();
            let found = log.lines().any(|line| said(line, code, path));
            std::future::ready(holds(found, || log))
        })
        .await;
    }
}

async fn the_simulator_publishes_and_verifies_with_a_token(backend: Backend) {
    let file = TokenFile::new();
    let token = file.add("--name simulator --scope publish --scope read --topic sim-*").await;
    let system = start(backend, &file).await;
    let token_file = dirs::fresh("token").join("token");
    std::fs::write(&token_file, format!("{token}\n")).expect("the file");
    let simulate = async |option: &str, value: &str| {
        let mut command = process::command(&program::find("sluice-publisher"), None);
        command.args(["simulate", "--url", &system.base(), "--events", "500", "--verify", "--verify-timeout", "5m"]);
        command.args([option, value]).envs(client_env(&system.base())).stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.unwrap()
    };
    for (option, value) in [("--token", token.as_str()), ("--token-file", &token_file.display().to_string())] {
        let output = simulate(option, value).await;
        assert_eq!(output.status.code(), Some(0), "{option}: {output:?}");
    }
    let output = simulate("--token", "sluice_wrong").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("unauthorized"), "{output:?}");
}

async fn without_authentication_a_token_is_ignored(backend: Backend) {
    let system = system(backend).await;
    let client = system.client.with_token("sluice_any");
    client.publish_raw(event("t", "first").to_string()).await.assert_status(202);
    client.get("/metrics").await.assert_status(200);
    system.wait_until_stored(1).await;
}

#[tokio::test]
async fn a_wrong_file_of_tokens_is_refused_at_the_start_with_the_item_and_the_field() {
    let file = TokenFile::new();
    let (_, item) = make("--name shop --scope publish").await;
    file.replace(&(item.clone() + &item.replace("scopes: [publish]", "scopes: [root]")));
    let path = file.path.display().to_string();
    let servers = ["--redis-url", "redis://127.0.0.1:1"];
    let run = [&["run", "--database-url", "postgres://127.0.0.1:1/x"][..], &servers].concat();
    let serve = [&["serve"][..], &servers].concat();
    let data = dirs::fresh("never").display().to_string();
    let standalone = vec!["standalone", "--data", &data];
    for (binary, args) in [("sluice-publisher", serve), ("sluice-aggregator", run), ("sluice-aggregator", standalone)] {
        for (tokens, expected) in [(path.as_str(), "item 2 (shop): scopes: "), ("/no/such/file", "cannot be read")] {
            let mut command = process::command(&program::find(binary), None);
            command.args(&args).args(["--tokens", tokens]).stdin(Stdio::null());
            let output = tokio::task::spawn_blocking(move || command.output().expect("the program runs"));
            let output = output.await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{binary}: {said}");
            assert!(said.contains(&format!("--tokens: {tokens}: {expected}")), "{binary}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_authentication_that_others_can_reach_warns_and_one_with_it_does_not() {
    let file = TokenFile::new();
    let warning = "there is no authentication (--tokens, --jwt-issuer)";
    for (tokens, listen, warned) in
        [(false, "0.0.0.0:0", true), (false, "127.0.0.1:0", false), (true, "0.0.0.0:0", false)]
    {
        let dir = dirs::fresh("warning");
        let log = dir.join("log");
        let mut args =
            vec!["standalone", "--listen", listen, "--data"].into_iter().map(str::to_owned).collect::<Vec<_>>();
        args.push(dir.join("data").display().to_string());
        if tokens {
            args.extend(["--tokens".to_owned(), file.path.display().to_string()]);
        }
        let mut process = process::Process::start(&program::find("sluice-aggregator"), &args, &[], None, &log);
        let content = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_until("the server listens", Duration::from_secs(120), || async {
            holds(content().contains("\"listening\""), content)
        })
        .await;
        assert_eq!(content().contains(warning), warned, "{listen}: {}", content());
        process.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_warns_of_aggregators_that_need_no_token_while_it_does_or_the_other_way_round() {
    let (file, redis) = (TokenFile::new(), RedisServer::start());
    let start = async |binary: &'static str, args: &[&str], with_tokens: bool| {
        let path = file.path.display().to_string();
        let tokens: &[&str] = if with_tokens { &["--tokens", &path] } else { &[] };
        let args = [args, tokens].concat().into_iter().map(str::to_owned).collect();
        let mut program = program::Program::new("program", binary, args, &[], &dirs::fresh("same"));
        program.start().await;
        program
    };
    for (they_do, it_does, said) in [
        (false, true, "the aggregators need no token, and this publisher does"),
        (true, false, "the aggregators need a token, and this publisher does not"),
        (true, true, "the aggregators need a token, as this publisher does"),
        (false, false, "the aggregators need no token, as this publisher does not"),
    ] {
        let data = dirs::fresh("data").display().to_string();
        let aggregator = start("sluice-aggregator", &["standalone", "--data", &data], they_do).await;
        let args = ["serve", "--redis-url", &redis.url(), "--query-url", &aggregator.base()];
        let publisher = start("sluice-publisher", &args, it_does).await;
        wait_until("the log says it", Duration::from_secs(120), || async {
            let log = publisher.log();
            let line = log.lines().find(|line| line.contains(&format!("--query-url: {said}")));
            let level = if they_do == it_does { "\"level\":\"INFO\"" } else { "\"level\":\"WARN\"" };
            holds(line.is_some_and(|line| line.contains(level)), || log.clone())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthcheck_needs_no_token_and_sends_the_one_it_is_given() {
    let file = TokenFile::new();
    let token = file.add("--name prober --scope read").await;
    let system = setup(Backend::Standalone, &file).start().await;
    for args in [vec![], vec!["--token", &token]] {
        let mut command = process::command(&program::find("sluice-publisher"), None);
        command.args(["healthcheck", "--url", &system.base()]).args(args).stdin(Stdio::null());
        command.envs(client_env(&system.base()));
        let output = tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let list = system.client.with_token(&token).get_json("/events").await;
    assert_eq!(list["events"], json!([]));
}
