//! The way from a log line to its trace: the field `trace_id`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use sluice_tests::program::Program;
use sluice_tests::{Backend, Setup, wait_until};

use crate::client::{Context, publish};
use crate::collector::{Collector, Protocol};

/// Returns the value of a field, wherever in the line it stands.
fn field(line: &Value, name: &str) -> Option<String> {
    let object = line.as_object()?;
    let here = object.get(name).and_then(Value::as_str).map(str::to_owned);
    here.or_else(|| object.values().find_map(|value| field(value, name)))
}

/// Returns the trace ids of the lines with this message; those without one have `None`.
fn traces(program: &Program, message: &str) -> BTreeSet<Option<String>> {
    let log = program.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| field(line, "message").as_deref() == Some(message));
    lines.map(|line| field(&line, "trace_id")).collect()
}

/// Waits until a program has written a line with this message, and until the id of this trace is in all such lines.
async fn until_logged(program: &Program, message: &str, trace: Option<&str>) {
    let expected = BTreeSet::from([trace.map(str::to_owned)]);
    wait_until(&format!("{} writes \"{message}\" with {trace:?}", program.name()), Duration::from_secs(60), || async {
        let found = traces(program, message);
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// A query that the aggregator refuses: with a context that it gets from the publisher.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_about_a_request_have_its_trace_id_in_both_programs_also_if_nothing_is_exported() {
    for context in [Context::sampled(), Context::not_sampled()] {
        let system = Setup::without_tls(Backend::RedisPostgres).start().await;
        let request = system.client.request("GET", "/events/orders/unknown");
        system.client.send(context.on(request)).await.assert_status(404);
        until_logged(&system.aggregators[0], "request refused", Some(&context.trace)).await;
        let bad = system.client.request("POST", "/publish").header("content-type", "application/json").body("{");
        system.client.send(context.on(bad)).await.assert_status(400);
        until_logged(system.publisher.as_ref().expect("a publisher"), "request refused", Some(&context.trace)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_standalone_about_a_request_have_its_trace_id() {
    let context = Context::sampled();
    let system = Setup::without_tls(Backend::Standalone).start().await;
    system.client.send(context.on(system.client.request("GET", "/events/orders/unknown"))).await.assert_status(404);
    until_logged(&system.aggregators[0], "request refused", Some(&context.trace)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_about_a_request_without_a_valid_traceparent_has_no_trace_id() {
    let system = Setup::without_tls(Backend::Standalone).start().await;
    let request = system.client.request("GET", "/events/orders/unknown").header("traceparent", "00-x-y-01");
    system.client.send(request).await.assert_status(404);
    until_logged(&system.aggregators[0], "request refused", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_about_a_request_that_chance_has_chosen_has_the_trace_id_that_the_collector_gets() {
    let collector = Collector::start();
    let setup = collector.traces(Setup::without_tls(Backend::Standalone), Protocol::Http);
    let system = setup.env("OTEL_TRACES_SAMPLER_ARG", "1").start().await;
    let name = "GET /events/{topic}/{event_id}";
    system.client.get("/events/orders/unknown").await.assert_status(404);
    let spans = collector.wait("the span", |spans| spans.iter().any(|span| span.name == name)).await;
    let span = spans.iter().find(|span| span.name == name).expect("the span");
    until_logged(&system.aggregators[0], "request refused", Some(&span.trace)).await;
}

/// Without a Collector too: a `traceparent` is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_about_an_entry_that_cannot_be_appended_and_a_batch_that_cannot_be_stored_have_a_trace_id() {
    let collector = Collector::start();
    let setup = collector.traces(Setup::without_tls(Backend::RedisPostgres), Protocol::Http);
    let mut system = setup.publisher("--append-timeout", "2s").own_servers().await.start().await;
    let servers = system.servers.as_mut().expect("servers of its own");
    servers.postgres.kill();
    let stored = Context::sampled();
    stored.publish(&system.client).await;
    until_logged(&system.aggregators[0], "cannot commit, trying again", Some(&stored.trace)).await;
    system.servers.as_mut().expect("servers of its own").redis.kill();
    let refused = Context::sampled();
    system.client.send(refused.on(publish(&system.client, "/publish"))).await.assert_problem(503, "log_unavailable");
    let publisher = system.publisher.as_ref().expect("a publisher");
    until_logged(publisher, "cannot append, trying again", Some(&refused.trace)).await;
    until_logged(publisher, "request failed", Some(&refused.trace)).await;
}
