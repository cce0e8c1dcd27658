//! The spans of a published event: their parents, kinds, names and attributes.

use serde_json::json;
use sluice_tests::{Backend, Setup};

use crate::client::{Context, event};
use crate::collector::{Collector, Protocol};
use sluice_tests::span::{Kind, Span};

/// The names of the spans of a publication.
pub const PUBLISHED: [&str; 4] = ["POST /publish", "append", "read", "commit"];

/// Returns the only span of a trace with this name.
pub fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        _ => panic!("not one span {name}: {spans:#?}"),
    }
}

/// The kinds and the parents: client → server → append, and server → read → commit.
fn assert_tree(spans: &[Span], context: &Context) {
    let [server, append, read, commit] = PUBLISHED.map(|name| one(spans, name));
    assert_eq!(server.parent, context.span, "{spans:#?}");
    assert_eq!(append.parent, server.id, "{spans:#?}");
    assert_eq!(read.parent, server.id, "{spans:#?}");
    assert_eq!(commit.parent, read.id, "{spans:#?}");
    let kinds = [server.kind, append.kind, read.kind, commit.kind];
    assert_eq!(kinds, [Kind::Server, Kind::Producer, Kind::Consumer, Kind::Client], "{spans:#?}");
    for span in spans {
        assert!(span.scope == "sluice" && !span.is_error, "{span:#?}");
        assert!(span.links.is_empty() && span.events.is_empty(), "{span:#?}");
    }
}

/// The times: an entry is read when it is there, and committed when it has been read.
fn assert_times(spans: &[Span]) {
    // Redis says in whole milliseconds since when it has had an entry.
    const MILLISECOND: u128 = 1_000_000;
    let [server, append, read, commit] = PUBLISHED.map(|name| one(spans, name));
    for span in spans {
        assert!(span.start <= span.end, "{span:#?}");
    }
    assert!(server.start <= append.start && append.end <= server.end, "{spans:#?}");
    assert!(append.start <= read.start + MILLISECOND, "{spans:#?}");
    assert!(read.end <= commit.start + MILLISECOND, "{spans:#?}");
}

async fn a_published_event_is_one_trace(backend: Backend, protocol: Protocol) {
    let collector = Collector::start();
    let system = collector.traces(Setup::without_tls(backend), protocol).start().await;
    let context = Context::sampled();
    let answer = context.publish(&system.client).await;
    let spans = collector.wait_for(&context.trace, &PUBLISHED).await;
    assert_tree(&spans, &context);
    assert_times(&spans);

    let is_standalone = backend == Backend::Standalone;
    let (publisher, aggregator) = if is_standalone {
        ("sluice-standalone", "sluice-standalone")
    } else {
        ("sluice-publisher", "sluice-aggregator")
    };
    let (log, store) = if is_standalone { ("sqlite", "sqlite") } else { ("redis", "postgresql") };
    let [server, append, read, commit] = PUBLISHED.map(|name| one(&spans, name));
    let services = [server, append, read, commit].map(|span| span.service.as_str());
    assert_eq!(services, [publisher, publisher, aggregator, aggregator]);
    server.assert_has(&json!({
        "http.request.method": "POST", "http.route": "/publish", "url.path": "/publish", "url.scheme": "http",
        "http.response.status_code": 202, "sluice.request.id": answer.headers["x-request-id"].to_str().unwrap(),
    }));
    append.assert_has(&json!({
        "messaging.system": log, "messaging.operation.name": "append", "messaging.operation.type": "send",
        "messaging.destination.partition.id": "0", "messaging.batch.message_count": 1, "sluice.entry.requests": 1,
    }));
    read.assert_has(&json!({
        "messaging.system": log, "messaging.operation.name": "read", "messaging.operation.type": "process",
        "messaging.destination.name": append.text("messaging.destination.name"),
        "messaging.destination.partition.id": "0", "messaging.batch.message_count": 1,
        "sluice.entry.id": append.text("sluice.entry.id"),
    }));
    assert!(!read.text("sluice.position").is_empty(), "{read:#?}");
    commit.assert_has(&json!({
        "db.system.name": store, "db.operation.name": "COMMIT", "sluice.batch.events": 1, "sluice.batch.entries": 1, "sluice.batch.unique": 1,
        "sluice.batch.duplicates": 0,
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_published_to_redis_and_postgres_is_one_trace_of_both_programs() {
    for protocol in Protocol::ALL {
        a_published_event_is_one_trace(Backend::RedisPostgres, protocol).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_published_to_sqlite_is_one_trace_of_one_program() {
    for protocol in Protocol::ALL {
        a_published_event_is_one_trace(Backend::Standalone, protocol).await;
    }
}

async fn the_numbers_are_those_of_the_request(backend: Backend) {
    let collector = Collector::start();
    let system = collector.traces(Setup::without_tls(backend), Protocol::Http).start().await;
    let (context, once) = (Context::sampled(), event());
    let body = json!([event(), once, event(), once]).to_string();
    let request = context.on(system.client.request("POST", "/publish?wait=stored"));
    let answer = system.client.send(request.header("content-type", "application/json").body(body)).await;
    assert_eq!((answer.json()["stored"].as_u64(), answer.json()["duplicates"].as_u64()), (Some(3), Some(1)));

    let spans = collector.wait_for(&context.trace, &PUBLISHED).await;
    assert_tree(&spans, &context);
    let [server, append, read, commit] = PUBLISHED.map(|name| one(&spans, name));
    server.assert_has(&json!({"url.path": "/publish", "http.response.status_code": 200}));
    append.assert_has(&json!({"messaging.batch.message_count": 4}));
    read.assert_has(&json!({"messaging.batch.message_count": 4}));
    let numbers = json!({"sluice.batch.events": 4, "sluice.batch.unique": 3, "sluice.batch.duplicates": 1});
    commit.assert_has(&numbers);
    // The answer came after the commit, for which the request has waited.
    assert!(server.start < commit.start && commit.start < server.end, "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_until_its_events_are_stored_has_the_numbers_of_its_answer_in_its_trace() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        the_numbers_are_those_of_the_request(backend).await;
    }
}
