//! Tests of the simulator program against a publisher.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sluice_tests::program::find;

use crate::fixture::Fixture;

/// Runs `simulate` until it exits.
async fn simulate(url: &str, options: &[&str], input: &'static str) -> Output {
    let mut command = Command::new(find("sluice-publisher"));
    command.args(["simulate", "--url", url]).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Parses the report on standard output, and asserts that the exit code is 0.
fn report(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {:?}", output.stdout))
}

#[tokio::test]
async fn it_sends_exactly_what_it_says() {
    let fixture = Fixture::start(&[]).await;
    let options = ["--events", "2000", "--duplicate", "0.3", "--batch", "50", "--seed", "7", "--run-id", "r"];
    let output = simulate(fixture.client.base(), &options, "").await;
    let report = report(&output);
    for (field, expected) in
        [("sent", 2_000), ("accepted", 2_000), ("unique", 1_400), ("duplicates", 600), ("retries", 0)]
    {
        assert_eq!(report[field], expected, "{field} in {report}");
    }
    let latency = &report["latency_ms"];
    let [p50, p95, p99] = ["p50", "p95", "p99"].map(|quantile| latency[quantile].as_f64().unwrap());
    let all = report["seconds"].as_f64().unwrap() * 1_000.0;
    assert!(0.05 < p50 && p50 <= p95 && p95 <= p99 && p99 <= all * 1.01, "{report}");
    assert!(report["events_per_second"].as_f64() > Some(0.0), "{report}");

    let entries = fixture.entries(0).await;
    let requests: Vec<_> = entries.iter().flat_map(|entry| &entry.requests).collect();
    assert_eq!(requests.len(), 40);
    assert!(requests.iter().all(|(_, receipt, _)| receipt.is_some()), "each request has a key");
    let ids = fixture.event_ids().await;
    assert_eq!((ids.len(), ids.into_iter().collect::<HashSet<_>>().len()), (2_000, 1_400));
}

#[tokio::test]
async fn it_repeats_what_is_refused_for_a_moment() {
    // Only one request may wait for the log, and sixteen are sent at the same time.
    let fixture = Fixture::start(&["--max-waiting", "1"]).await;
    fixture.freeze_redis().await;
    let url = fixture.client.base().to_owned();
    let options = ["--events", "400", "--batch", "5", "--concurrency", "16", "--duplicate", "0"];
    let running = tokio::spawn(async move { simulate(&url, &options, "").await });
    fixture.waiting(1).await;
    fixture.thaw_redis();
    let report = report(&running.await.unwrap());
    assert_eq!((&report["sent"], &report["accepted"]), (&400.into(), &400.into()), "{report}");
    assert!(report["retries"].as_u64() > Some(0), "{report}");
    let ids: HashSet<_> = fixture.event_ids().await.into_iter().collect();
    assert_eq!(ids.len(), 400);
}

#[tokio::test]
async fn it_publishes_the_lines_of_a_file() {
    let fixture = Fixture::start(&[]).await;
    let lines = "{\"id\":\"1\",\"payload\":1.50}\n\n{\"id\":\"2\",\"payload\":2}\n{\"id\":\"1\",\"payload\":1.50}\n";
    let report = report(&simulate(fixture.client.base(), &["--file", "-", "--batch", "2"], lines).await);
    for (field, expected) in [("sent", 3), ("accepted", 3), ("unique", 2), ("duplicates", 1)] {
        assert_eq!(report[field], expected, "{field} in {report}");
    }
    let mut ids = fixture.event_ids().await;
    ids.sort_unstable();
    assert_eq!(ids, ["1", "1", "2"]);
}

#[tokio::test]
async fn a_bad_line_ends_it_with_its_number_and_without_its_request() {
    let fixture = Fixture::start(&[]).await;
    let lines =
        "{\"id\":\"1\",\"payload\":1}\n{\"id\":\"2\",\"payload\":2}\n{\"id\":\"3\"}\n{\"id\":\"4\",\"payload\":4}\n";
    let output = simulate(fixture.client.base(), &["--file", "-", "--batch", "1"], lines).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("line 3") && error.contains("payload"), "{error}");
    let mut ids = fixture.event_ids().await;
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2"]);
}

#[tokio::test]
async fn a_server_that_never_answers_fails_it_in_time() {
    let output = simulate("http://127.0.0.1:1", &["--events", "10", "--send-timeout", "500ms"], "").await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("not answered within") && error.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn wrong_usage_exits_2() {
    for options in [
        vec!["--duplicate", "1"],
        vec!["--burst", "10"],
        vec!["--file", "-", "--verify"],
        vec!["--run-id", "a b"],
        vec!["--nonsense"],
    ] {
        let output = simulate("http://127.0.0.1:1", &options, "").await;
        assert_eq!(output.status.code(), Some(2), "{options:?}");
    }
}
