//! What is repeated is in the trace: appends, commits, and entries that another replica takes over.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::proxy::Cut;
use sluice_tests::proxy::redis::RedisProxy;
use sluice_tests::span::Span;
use sluice_tests::{Backend, Setup, TableLock};

use crate::client::Context;
use crate::collector::{Collector, Protocol};
use crate::tree::{PUBLISHED, one};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_was_lost_is_repeated_in_its_span() {
    let collector = Collector::start();
    let setup = collector.traces(Setup::without_tls(Backend::RedisPostgres), Protocol::Http).own_servers().await;
    let proxy = RedisProxy::start(&setup.servers().redis.address(), Cut::After).await;
    let system = setup.redis_through(proxy.address()).start().await;
    proxy.arm(2);
    let context = Context::sampled();
    context.publish(&system.client).await;
    // What Redis has executed is in the log, whatever the publisher knows: each copy is read, and the first one stored.
    let names = ["POST /publish", "append", "read", "read", "read", "commit", "commit", "commit"];
    let spans = collector.wait_for(&context.trace, &names).await;
    assert_eq!((proxy.cuts(), one(&spans, "append").events("repeat").len()), (2, 2), "{spans:#?}");
    let entry = one(&spans, "append").text("sluice.entry.id");
    assert!(
        spans.iter().filter(|span| span.name == "read").all(|span| span.text("sluice.entry.id") == entry),
        "{spans:#?}"
    );
    system.wait_until_stored(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_is_repeated_in_its_span_with_the_reason() {
    let collector = Collector::start();
    let setup = collector.traces(Setup::without_tls(Backend::RedisPostgres), Protocol::Http);
    let mut system = setup.own_servers().await.start().await;
    system.servers.as_mut().expect("servers of its own").postgres.kill();
    let context = Context::sampled();
    context.publish(&system.client).await;
    let aggregator = &system.aggregators[0];
    sluice_tests::wait_until("a commit has failed", Duration::from_secs(60), || async {
        sluice_tests::wait::holds(aggregator.log().contains("cannot commit, trying again"), || "none".to_owned())
    })
    .await;
    system.servers.as_mut().expect("servers of its own").postgres.start_again();
    let spans = collector.wait_for(&context.trace, &PUBLISHED).await;
    let commit = one(&spans, "commit");
    let retries = commit.events("retry");
    assert!(!retries.is_empty(), "{commit:#?}");
    for retry in retries {
        assert!(
            retry.get("exception.message").and_then(Value::as_str).is_some_and(|text| !text.is_empty()),
            "{commit:#?}"
        );
    }
    assert!(!commit.is_error, "in the end it was stored: {commit:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_a_killed_replica_had_read_is_in_the_same_trace_when_another_one_stores_it() {
    let collector = Collector::start();
    let setup = collector.traces(Setup::without_tls(Backend::RedisPostgres), Protocol::Http);
    let mut system = setup.aggregators(2).replica("--claim-after", "5s").start().await;
    let lock = TableLock::take(&system.store).await;
    let context = Context::sampled();
    context.publish(&system.client).await;
    let reader = lock.holds_up_any().await.pop().expect("a replica");
    let index = system.aggregators.iter().position(|program| program.name() == reader).expect("an aggregator");
    system.aggregators[index].kill();
    lock.release().await;
    let is_whole = |spans: &[Span]| spans.iter().any(|span| span.trace == context.trace && span.name == "commit");
    collector.wait("the commit", is_whole).await;
    // The publisher asks the first replica, which may be the one that was killed.
    system.aggregators[index].start().await;
    system.wait_until_stored(1).await;
    let spans = collector.trace(&context.trace);
    let (server, commit) = (one(&spans, "POST /publish"), one(&spans, "commit"));
    // The replica that was killed may have sent its own span of reading.
    let read = spans.iter().find(|span| span.id == commit.parent).unwrap_or_else(|| panic!("{spans:#?}"));
    assert_eq!((read.name.as_str(), read.parent.as_str()), ("read", server.id.as_str()), "{spans:#?}");
    read.assert_has(&json!({"sluice.entry.id": one(&spans, "append").text("sluice.entry.id")}));
    commit.assert_has(&json!({"sluice.batch.events": 1, "sluice.batch.unique": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_standalone_had_accepted_before_it_was_killed_is_in_the_same_trace_after_its_start() {
    let collector = Collector::start();
    let setup = collector.traces(Setup::without_tls(Backend::Standalone), Protocol::Http);
    // The events of the first second wait, so that they are not stored when the process is killed.
    let mut system = setup.aggregator("--batch-linger", "10s").start().await;
    let context = Context::sampled();
    context.publish(&system.client).await;
    collector.wait_for(&context.trace, &["POST /publish", "append"]).await;
    system.aggregators[0].kill();
    system.aggregators[0].replace_option("--batch-linger", "0ms");
    system.aggregators[0].start().await;
    system.wait_until_stored(1).await;
    let spans = collector.wait_for(&context.trace, &PUBLISHED).await;
    assert_eq!(one(&spans, "read").parent, one(&spans, "POST /publish").id, "{spans:#?}");
    assert_eq!(one(&spans, "commit").parent, one(&spans, "read").id, "{spans:#?}");
}
