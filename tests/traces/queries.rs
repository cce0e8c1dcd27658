//! Requests without events, and requests that are refused.

use serde_json::json;
use sluice_tests::{Backend, Client, Setup};

use crate::client::{Context, publish};
use crate::collector::{Collector, Protocol};
use crate::tree::one;
use sluice_tests::span::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_the_publisher_passes_on_is_one_trace_of_both_programs() {
    let collector = Collector::start();
    let system = collector.traces(Setup::without_tls(Backend::RedisPostgres), Protocol::Grpc).start().await;
    let context = Context::sampled();
    system
        .client
        .send(context.on(system.client.request("GET", "/events?topic=orders&limit=1")))
        .await
        .assert_status(200);
    let spans = collector.wait_for(&context.trace, &["GET", "GET /events"]).await;
    let of = |service: &str| spans.iter().find(|span| span.service == service).unwrap_or_else(|| panic!("{spans:#?}"));
    let (publisher, aggregator) = (of("sluice-publisher"), of("sluice-aggregator"));
    assert_eq!(publisher.parent, context.span, "{spans:#?}");
    assert_eq!(aggregator.parent, publisher.id, "{spans:#?}");
    for span in [publisher, aggregator] {
        assert_eq!(span.kind, Kind::Server, "{span:#?}");
        let expected = json!({"http.request.method": "GET", "url.path": "/events", "http.response.status_code": 200});
        span.assert_has(&expected);
    }
    // The publisher passes on what it does not serve itself, and knows no pattern of its path.
    aggregator.assert_has(&json!({"http.route": "/events"}));
    assert_eq!((publisher.name.as_str(), publisher.attributes.get("http.route")), ("GET", None), "{publisher:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_of_standalone_is_one_span() {
    let collector = Collector::start();
    let system = collector.traces(Setup::without_tls(Backend::Standalone), Protocol::Grpc).start().await;
    let context = Context::sampled();
    let request = system.client.request("GET", "/events/orders/unknown");
    system.client.send(context.on(request)).await.assert_status(404);
    let spans = collector.wait_for(&context.trace, &["GET /events/{topic}/{event_id}"]).await;
    assert_eq!((spans[0].parent.as_str(), spans[0].is_error), (context.span.as_str(), false), "{spans:#?}");
    spans[0].assert_has(&json!({"url.path": "/events/orders/unknown", "http.response.status_code": 404}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_is_a_span_with_its_status_and_no_more() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        let collector = Collector::start();
        let system = collector.traces(Setup::without_tls(backend), Protocol::Http).start().await;
        let context = Context::sampled();
        let request = system.client.request("POST", "/publish").header("content-type", "application/json");
        system.client.send(context.on(request.body(r#"{"event_id":""}"#))).await.assert_problem(422, "invalid_event");
        let spans = collector.wait_for(&context.trace, &["POST /publish"]).await;
        // The client's fault is no error of the server.
        assert!(!spans[0].is_error, "{spans:#?}");
        spans[0].assert_has(&json!({"http.response.status_code": 422}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_server_cannot_answer_is_an_error() {
    let collector = Collector::start();
    let setup = collector.traces(Setup::without_tls(Backend::RedisPostgres), Protocol::Http);
    let mut system = setup.publisher("--append-timeout", "1s").own_servers().await.start().await;
    system.servers.as_mut().expect("servers of its own").redis.kill();
    let context = Context::sampled();
    let answer = system.client.send(context.on(publish(&system.client, "/publish"))).await;
    answer.assert_problem(503, "log_unavailable");
    let spans = collector.wait_for(&context.trace, &["POST /publish", "append"]).await;
    let (server, append) = (one(&spans, "POST /publish"), one(&spans, "append"));
    server.assert_has(&json!({"http.response.status_code": 503, "error.type": "503"}));
    assert!(server.is_error && append.is_error, "{spans:#?}");
    assert_eq!(append.parent, server.id, "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_invents_is_in_no_name() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        let collector = Collector::start();
        let mut system = collector.traces(Setup::without_tls(backend), Protocol::Http).start().await;
        let client = Client::new(&system.ingest().base());
        let (path, method) = (Context::sampled(), Context::sampled());
        client.send(path.on(client.request("GET", "/invented"))).await.assert_status(404);
        client.send(method.on(client.request("INVENTED", "/publish"))).await.assert_status(405);
        for context in [path, method] {
            let spans = collector.wait("the span", |spans| spans.iter().any(|span| span.trace == context.trace)).await;
            let span = spans.iter().find(|span| span.parent == context.span).expect("the first span");
            assert!(!span.name.to_lowercase().contains("invented"), "{span:#?}");
            assert_ne!(span.text("http.request.method"), "INVENTED", "{span:#?}");
        }
    }
}
