//! A Collector that is away or does not answer: publishing goes on, and what is lost is counted.

use std::time::{Duration, Instant};

use sluice_tests::program::Program;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, System, ports, wait_until};

use crate::client::{Context, counted, counted_in_all};
use crate::collector::{Collector, Protocol};
use crate::tree::PUBLISHED;

const SOON: Duration = Duration::from_secs(60);

/// Traces every request that asks for it, and no others.
fn all_that_ask(setup: Setup) -> Setup {
    setup.env("OTEL_TRACES_SAMPLER_ARG", "0").env("SLUICE_TRACE_LIMIT", "100000")
}

/// Returns the programs, each with the number of spans that it makes of one published event.
fn programs(system: &System) -> Vec<(&Program, u64)> {
    match &system.publisher {
        Some(publisher) => vec![(publisher, 2), (&system.aggregators[0], 2)],
        None => vec![(&system.aggregators[0], 4)],
    }
}

/// Waits until a program has counted so many spans, whatever has become of them.
async fn until_counted(program: &Program, expected: u64) {
    wait_until(&format!("{} has counted {expected} spans", program.name()), SOON, || async {
        let all = counted_in_all(program).await;
        holds(all == expected, || format!("{all} spans"))
    })
    .await;
}

/// Publishes so many events, each in a trace, and returns the median time of an answer.
async fn publish_and_time(system: &System, requests: u64) -> Duration {
    let mut times = Vec::new();
    for _ in 0..requests {
        let began = Instant::now();
        Context::sampled().publish(&system.client).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_collector_is_there_everything_is_accepted_and_stored_and_each_lost_span_is_counted() {
    const REQUESTS: u64 = 50;
    for (backend, protocol) in [
        (Backend::RedisPostgres, Protocol::Http),
        (Backend::RedisPostgres, Protocol::Grpc),
        (Backend::Standalone, Protocol::Http),
    ] {
        let setup = all_that_ask(Setup::without_tls(backend));
        let setup = setup.env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{}", ports::free()));
        let setup = setup.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.name()).env("OTEL_BSP_SCHEDULE_DELAY", "100");
        let system = setup.start().await;
        publish_and_time(&system, REQUESTS).await;
        system.wait_until_stored(REQUESTS).await;
        for (program, spans) in programs(&system) {
            until_counted(program, REQUESTS * spans).await;
            assert_eq!(counted(program, "exported").await, 0, "{}", program.name());
            assert!(program.log().contains("trace"), "the log does not say it:\n{}", program.log());
        }
    }
}

/// Waits until a program has counted spans with this result.
async fn until_some(program: &Program, result: &str) {
    wait_until(&format!("{} has spans that are {result}", program.name()), SOON, || async {
        let some = counted(program, result).await;
        let all = counted_in_all(program).await;
        holds(some > 0, || format!("none of {all} spans that are counted"))
    })
    .await;
}

/// The queue of a program takes 2,048 spans.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_does_not_answer_slows_no_request_and_what_the_queue_cannot_take_is_counted() {
    const BEFORE: u64 = 300;
    const MEANWHILE: u64 = 1_500;
    for protocol in Protocol::ALL {
        let collector = Collector::start();
        let system = all_that_ask(collector.traces(Setup::without_tls(Backend::RedisPostgres), protocol)).start().await;
        let before = publish_and_time(&system, BEFORE).await;
        collector.freeze();
        let meanwhile = publish_and_time(&system, MEANWHILE).await;
        println!("{protocol:?}: the median is {before:?}, and {meanwhile:?} while the Collector does not answer");
        // A request that waits for the Collector waits for ten seconds.
        assert!(meanwhile < 3 * before + Duration::from_millis(10), "{before:?} became {meanwhile:?}");
        system.wait_until_stored(BEFORE + MEANWHILE).await;
        for (program, _) in programs(&system) {
            until_some(program, "dropped").await;
            until_some(program, "failed").await;
        }
        collector.thaw();
        let after = Context::sampled();
        after.publish(&system.client).await;
        collector.wait_for(&after.trace, &PUBLISHED).await;
        // A batch of the aggregator has spans in the traces of 64 requests at most, so that its number is not known.
        let (publisher, spans) = programs(&system)[0];
        until_counted(publisher, (BEFORE + MEANWHILE + 1) * spans).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_comes_back_gets_the_spans_from_then_on() {
    for protocol in Protocol::ALL {
        let mut collector = Collector::start();
        let setup = all_that_ask(collector.traces(Setup::without_tls(Backend::RedisPostgres), protocol));
        let system = setup.start().await;
        let first = Context::sampled();
        first.publish(&system.client).await;
        collector.wait_for(&first.trace, &PUBLISHED).await;
        collector.kill();
        Context::sampled().publish(&system.client).await;
        for (program, spans) in programs(&system) {
            until_counted(program, 2 * spans).await;
            assert_eq!(counted(program, "failed").await, spans, "{}", program.name());
        }
        collector.start_again();
        let last = Context::sampled();
        last.publish(&system.client).await;
        collector.wait_for(&last.trace, &PUBLISHED).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_told_to_stop_sends_the_spans_that_it_has() {
    for (backend, protocol) in [(Backend::RedisPostgres, Protocol::Grpc), (Backend::Standalone, Protocol::Http)] {
        let collector = Collector::start();
        let setup = collector.traces(Setup::without_tls(backend), protocol);
        // The later of two values counts.
        let mut system = setup.env("OTEL_BSP_SCHEDULE_DELAY", "600000").start().await;
        let context = Context::sampled();
        context.publish(&system.client).await;
        system.wait_until_stored(1).await;
        assert!(collector.trace(&context.trace).is_empty(), "spans were sent early");
        for program in system.programs() {
            assert!(program.terminate().is_some_and(|status| status.success()), "{}", program.name());
        }
        collector.wait_for(&context.trace, &PUBLISHED).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_told_to_stop_does_not_wait_long_for_a_collector_that_does_not_answer() {
    for (backend, protocol) in [(Backend::RedisPostgres, Protocol::Grpc), (Backend::Standalone, Protocol::Http)] {
        let collector = Collector::start();
        let mut system = all_that_ask(collector.traces(Setup::without_tls(backend), protocol)).start().await;
        collector.freeze();
        Context::sampled().publish(&system.client).await;
        system.wait_until_stored(1).await;
        for program in system.programs() {
            let began = Instant::now();
            program.ask_to_stop();
            // Kubernetes kills a pod after 30 seconds.
            let status = program.stopped(Duration::from_secs(25));
            assert!(status.is_some_and(|status| status.success()), "{}: {:?}", program.name(), began.elapsed());
        }
    }
}
