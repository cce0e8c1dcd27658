//! Requests that share an entry of the log or a batch of the store: each has spans in its own trace, with links.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, System, TableLock, metrics, wait_until};

use crate::client::{Context, publish};
use crate::collector::{Collector, Protocol};
use crate::tree::{PUBLISHED, one};
use sluice_tests::span::Span;

const SOON: Duration = Duration::from_secs(60);

/// Starts a system with servers of its own, which traces only what its clients ask for. One worker stores one batch at a time.
async fn traced_by_clients(collector: &Collector) -> System {
    let setup = collector.traces(Setup::without_tls(Backend::RedisPostgres), Protocol::Http);
    setup.replica("--workers", "1").env("OTEL_TRACES_SAMPLER_ARG", "0").own_servers().await.start().await
}

/// Sends requests that are appended together in one entry. While Redis does not answer, two other requests, which are not
/// traced, take the two appends that may be in flight; these then wait for the next.
async fn in_one_entry(system: &System, requests: Vec<RequestBuilder>) {
    let redis = system.servers.as_ref().expect("servers of its own").redis.process();
    let ours = requests.len();
    redis.freeze();
    let others = [publish(&system.client, "/publish"), publish(&system.client, "/publish")];
    let mut sent = Vec::new();
    for request in others {
        sent.push(tokio::spawn(request.send()));
        until_waiting(system, sent.len()).await;
    }
    sent.extend(requests.into_iter().map(|request| tokio::spawn(request.send())));
    until_waiting(system, 2 + ours).await;
    redis.resume();
    for request in sent {
        assert_eq!(request.await.expect("a request").expect("an answer").status(), 202);
    }
}

async fn until_waiting(system: &System, expected: usize) {
    let publisher = Client::new(&system.publisher.as_ref().expect("a publisher").base());
    wait_until(&format!("{expected} requests wait"), SOON, || async {
        let waiting = metrics::sum(&publisher.get("/metrics").await.text, "sluice_publish_waiting_requests") as usize;
        holds(waiting == expected, || format!("{waiting} requests"))
    })
    .await;
}

/// Each trace has such a span. That of the first request has links to all others, and theirs have one to it.
fn assert_linked(spans: &[&Span]) {
    let ids = |spans: &[&Span]| spans.iter().map(|span| (span.trace.clone(), span.id.clone())).collect::<BTreeSet<_>>();
    let all = ids(spans);
    let links = |span: &Span| span.links.iter().cloned().collect::<BTreeSet<_>>();
    let is_first = |span: &&&Span| links(span) == &all - &ids(&[span]);
    let first = spans.iter().find(is_first).unwrap_or_else(|| panic!("none has links to all others: {spans:#?}"));
    for span in spans.iter().filter(|span| span.id != first.id) {
        assert_eq!(links(span), ids(&[first]), "{spans:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_entry_have_spans_in_their_own_traces_with_links_to_each_other() {
    let collector = Collector::start();
    let system = traced_by_clients(&collector).await;
    let contexts = [Context::sampled(), Context::sampled(), Context::sampled()];
    let plain = || publish(&system.client, "/publish");
    let mut requests: Vec<_> = contexts.iter().map(|context| context.on(plain())).collect();
    requests.extend([plain(), Context::not_sampled().on(plain())]);
    in_one_entry(&system, requests).await;

    let mut traces = Vec::new();
    for context in &contexts {
        traces.push(collector.wait_for(&context.trace, &PUBLISHED).await);
    }
    for name in &PUBLISHED[1..] {
        let spans: Vec<_> = traces.iter().map(|trace| one(trace, name)).collect();
        assert_linked(&spans);
    }
    let entry = one(&traces[0], "append").text("sluice.entry.id");
    for (trace, context) in traces.iter().zip(&contexts) {
        assert_eq!(one(trace, "POST /publish").parent, context.span, "{trace:#?}");
        let expected =
            json!({"sluice.entry.id": entry, "sluice.entry.requests": 5, "messaging.batch.message_count": 5});
        one(trace, "append").assert_has(&expected);
        one(trace, "read").assert_has(&json!({"sluice.entry.id": entry, "messaging.batch.message_count": 5}));
        assert!(one(trace, "commit").number("sluice.batch.events") >= 5, "{trace:#?}");
        assert_eq!(one(trace, "commit").parent, one(trace, "read").id, "{trace:#?}");
    }
    // The requests beside them, which are not traced, have left no span.
    system.wait_until_stored(7).await;
    let all = collector.spans();
    assert_eq!(all.len(), contexts.len() * PUBLISHED.len(), "{all:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_beside_others_that_are_not_traced_has_no_links() {
    let collector = Collector::start();
    let system = traced_by_clients(&collector).await;
    let context = Context::sampled();
    let plain = || publish(&system.client, "/publish");
    in_one_entry(&system, vec![plain(), context.on(plain()), plain()]).await;
    let spans = collector.wait_for(&context.trace, &PUBLISHED).await;
    one(&spans, "append").assert_has(&json!({"sluice.entry.requests": 3, "messaging.batch.message_count": 3}));
    assert!(spans.iter().all(|span| span.links.is_empty()), "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_batch_have_commits_in_their_own_traces_with_links_to_each_other() {
    let collector = Collector::start();
    let system = traced_by_clients(&collector).await;
    // While the first batch waits for the lock, the entries of the others arrive, and then are stored together.
    let lock = TableLock::take(&system.store).await;
    let first = Context::sampled();
    first.publish(&system.client).await;
    lock.holds_up("aggregator-0").await;
    let contexts = [Context::sampled(), Context::sampled(), Context::sampled()];
    for context in &contexts {
        context.publish(&system.client).await;
        collector.wait_for(&context.trace, &["POST /publish", "append"]).await;
    }
    lock.release().await;

    let alone = collector.wait_for(&first.trace, &PUBLISHED).await;
    assert!(one(&alone, "commit").links.is_empty(), "{alone:#?}");
    let mut traces = Vec::new();
    for context in &contexts {
        traces.push(collector.wait_for(&context.trace, &PUBLISHED).await);
    }
    let commits: Vec<_> = traces.iter().map(|trace| one(trace, "commit")).collect();
    let entries: BTreeSet<_> = traces.iter().map(|trace| one(trace, "append").text("sluice.entry.id")).collect();
    assert_eq!(entries.len(), 3, "each request has an entry of its own: {traces:#?}");
    assert_linked(&commits);
    for commit in commits {
        commit.assert_has(&json!({"sluice.batch.events": 3, "sluice.batch.entries": 3, "sluice.batch.unique": 3}));
    }
    for trace in &traces {
        assert!(one(trace, "append").links.is_empty() && one(trace, "read").links.is_empty(), "{trace:#?}");
    }
}
