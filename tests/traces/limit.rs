//! How many traces begin in a second.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sluice_tests::{Backend, Setup};

use crate::client::{Context, publish};
use crate::collector::{Collector, Protocol};

/// The limit of these tests.
const LIMIT: usize = 5;

/// Publishes for two seconds, with a `traceparent` or by a ratio of 1, and compares the number of traces with the limit.
async fn no_more_traces_begin(backend: Backend, has_context: bool) {
    let collector = Collector::start();
    let setup =
        collector.traces(Setup::without_tls(backend), Protocol::Http).env("SLUICE_TRACE_LIMIT", &LIMIT.to_string());
    let mut system = setup.env("OTEL_TRACES_SAMPLER_ARG", if has_context { "0" } else { "1" }).start().await;
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(2) {
        let request = publish(&system.client, "/publish");
        let request = if has_context { Context::sampled().on(request) } else { request };
        system.client.send(request).await.assert_status(202);
        sent += 1;
    }
    // A program sends what it has when it ends.
    for program in system.programs() {
        assert!(program.terminate().is_some_and(|status| status.success()), "{}", program.name());
    }
    // A part of a second before the first request, and one after the last, have traces too.
    let most = LIMIT * (began.elapsed().as_secs() as usize + 2);
    assert!(sent > most, "{sent} requests do not reach the limit");
    let traces: BTreeSet<_> = collector.end().into_iter().map(|span| span.trace).collect();
    println!("{} of {sent} requests are traced in {:?}", traces.len(), began.elapsed());
    assert!(
        (LIMIT..=most).contains(&traces.len()),
        "{} traces of {sent} requests, expected at most {most}",
        traces.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_ask_for_many_traces_get_no_more_of_them_in_a_second_than_the_limit() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        no_more_traces_begin(backend, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ratio_begins_no_more_traces_in_a_second_than_the_limit() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        no_more_traces_begin(backend, false).await;
    }
}
