//! Which requests are traced.

use std::collections::BTreeSet;

use sluice_tests::{Backend, Setup, System};

use crate::client::{Context, mark, publish};
use crate::collector::{Collector, Protocol};
use crate::tree::{PUBLISHED, one};
use sluice_tests::span::{Kind, Span};

/// More traces than a test begins in a second.
const NO_LIMIT: &str = "100000";

/// The traces of requests to publish.
fn published(spans: &[Span]) -> BTreeSet<String> {
    spans.iter().filter(|span| span.name == PUBLISHED[0]).map(|span| span.trace.clone()).collect()
}

async fn with_ratio(collector: &Collector, backend: Backend, ratio: &str) -> System {
    let setup = collector.traces(Setup::without_tls(backend), Protocol::Http);
    setup.env("OTEL_TRACES_SAMPLER_ARG", ratio).env("SLUICE_TRACE_LIMIT", NO_LIMIT).start().await
}

/// Waits until everything that was made before has arrived.
async fn all_spans(collector: &Collector, system: &System, stored: u64) -> Vec<Span> {
    system.wait_until_stored(stored).await;
    // The publisher passes it on, and has a span of it too.
    let names: &[&str] = if system.backend == Backend::Standalone { &["GET /stats"] } else { &["GET", "GET /stats"] };
    let context = mark(system).await;
    collector.wait_for(&context.trace, names).await;
    collector.spans()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traceparent_that_is_not_sampled_is_not_traced_though_every_other_request_is() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        let collector = Collector::start();
        let system = with_ratio(&collector, backend, "1").await;
        let refused = Context::not_sampled();
        refused.publish(&system.client).await;
        system.client.send(refused.on(system.client.request("GET", "/topics"))).await.assert_status(200);
        system.client.send(publish(&system.client, "/publish")).await.assert_status(202);
        let spans = all_spans(&collector, &system, 2).await;
        assert!(spans.iter().all(|span| span.trace != refused.trace && span.name != "GET /topics"), "{spans:#?}");
        assert_eq!(published(&spans).len(), 1, "{spans:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_ratio_1_a_request_without_a_traceparent_begins_a_trace() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        let collector = Collector::start();
        let system = with_ratio(&collector, backend, "1").await;
        system.client.send(publish(&system.client, "/publish")).await.assert_status(202);
        let spans = all_spans(&collector, &system, 1).await;
        let trace = published(&spans).into_iter().next().expect("a trace");
        let spans = collector.wait_for(&trace, &PUBLISHED).await;
        let server = one(&spans, PUBLISHED[0]);
        assert!(server.parent.is_empty() && server.kind == Kind::Server, "{spans:#?}");
        assert_eq!(one(&spans, "append").parent, server.id, "{spans:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_ratio_0_only_a_request_with_a_sampled_traceparent_is_traced() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        let collector = Collector::start();
        let system = with_ratio(&collector, backend, "0").await;
        for _ in 0..50 {
            system.client.send(publish(&system.client, "/publish")).await.assert_status(202);
        }
        let context = Context::sampled();
        context.publish(&system.client).await;
        let spans = all_spans(&collector, &system, 51).await;
        assert_eq!(published(&spans), BTreeSet::from([context.trace]), "{spans:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_ratio_between_about_that_share_of_the_requests_is_traced() {
    const REQUESTS: u64 = 1_000;
    let collector = Collector::start();
    let system = with_ratio(&collector, Backend::Standalone, "0.2").await;
    for _ in 0..REQUESTS {
        system.client.send(publish(&system.client, "/publish")).await.assert_status(202);
    }
    let spans = all_spans(&collector, &system, REQUESTS).await;
    let traced = published(&spans).len();
    // 200 are expected, with a standard deviation of 12.6; six of these happen less than once in 500 million runs.
    assert!((124..=276).contains(&traced), "{traced} of {REQUESTS} requests are traced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traceparent_that_is_invalid_is_as_good_as_none() {
    let collector = Collector::start();
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let zeros = "0".repeat(32);
    let invalid = [
        String::new(),
        "x".repeat(10_000),
        format!("ff-{trace}-{span}-01"),
        format!("00-{zeros}-{span}-01"),
        format!("00-{trace}-0000000000000000-01"),
        format!("00-{}-{span}-01", trace.to_uppercase()),
        format!("00-{trace}-{span}"),
        format!("00-{trace}-{span}-01-more"),
        format!("00-{trace}-{span}-1"),
        format!("00_{trace}_{span}_01"),
    ];
    let system = with_ratio(&collector, Backend::RedisPostgres, "0").await;
    for header in &invalid {
        let request = publish(&system.client, "/publish").header("traceparent", header);
        system.client.send(request).await.assert_status(202);
    }
    // Nobody can say which of two is meant.
    let two = Context::sampled().on(Context::sampled().on(publish(&system.client, "/publish")));
    system.client.send(two).await.assert_status(202);
    // A later version may have more fields.
    let later = Context::sampled();
    let header = format!("01{}-more", &later.header()[2..]);
    let request = publish(&system.client, "/publish").header("traceparent", header);
    system.client.send(request).await.assert_status(202);
    let spans = all_spans(&collector, &system, 2 + invalid.len() as u64).await;
    assert_eq!(published(&spans), BTreeSet::from([later.trace]), "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_metrics_are_never_traced() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        let collector = Collector::start();
        let mut system = with_ratio(&collector, backend, "1").await;
        let bases: Vec<_> = system.programs().map(|program| program.base()).collect();
        let mut asked = BTreeSet::new();
        for base in bases {
            let client = sluice_tests::Client::new(&base);
            for path in ["/healthz", "/readyz", "/metrics"] {
                let context = Context::sampled();
                client.send(context.on(client.request("GET", path))).await.assert_status(200);
                client.get(path).await.assert_status(200);
                asked.insert(context.trace);
            }
        }
        let spans = all_spans(&collector, &system, 0).await;
        let is_probe = |span: &&Span| {
            asked.contains(&span.trace) || ["healthz", "readyz", "metrics"].iter().any(|path| span.name.contains(path))
        };
        let probes: Vec<_> = spans.iter().filter(is_probe).collect();
        assert!(probes.is_empty(), "{probes:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_endpoint_is_as_good_as_none() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        let setup = Setup::without_tls(backend).env("OTEL_EXPORTER_OTLP_ENDPOINT", "");
        let mut system = setup.env("OTEL_TRACES_SAMPLER_ARG", "1").start().await;
        Context::sampled().publish(&system.client).await;
        system.wait_until_stored(1).await;
        for program in system.programs() {
            assert_eq!(crate::client::counted_in_all(program).await, 0, "{}", program.name());
            assert!(!program.log().contains("\"level\":\"ERROR\""), "{}", program.log());
        }
    }
}
