//! A Collector that demands TLS with certificates, or a token.

use std::time::Duration;

use sluice_tests::certificates::Authority;
use sluice_tests::program::Program;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, System, wait_until};

use crate::client::{Context, counted};
use crate::collector::{Collector, Demands, Protocol};
use crate::tree::PUBLISHED;

/// Nobody else has this text.
const TOKEN: &str = "a-token-of-the-tests";

async fn starts_a_trace(system: &System) -> Context {
    let context = Context::sampled();
    context.publish(&system.client).await;
    context
}

/// Waits until a program has failed to send its spans.
async fn until_failed(program: &Program) {
    wait_until(&format!("{} has failed to send", program.name()), Duration::from_secs(60), || async {
        holds(counted(program, "failed").await >= 2, || "none has failed".to_owned())
    })
    .await;
    assert_eq!(counted(program, "exported").await, 0, "{}", program.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_are_sent_over_tls_to_a_collector_with_a_certificate_of_a_ca_of_ones_own() {
    let authority = Authority::new();
    let client = authority.issue("client.example");
    let files = [authority.ca(), &client.cert, &client.key].map(|file| file.display().to_string());
    for protocol in Protocol::ALL {
        let collector = Collector::that_demands(&Demands { tls: Some(&authority), token: None });
        // Both forms of the settings.
        let setup = collector.traces(Setup::without_tls(Backend::RedisPostgres), protocol);
        let names =
            ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"].map(|name| format!("OTEL_EXPORTER_OTLP_{name}"));
        let setup = names.iter().zip(&files).fold(setup, |setup, (name, file)| setup.env(name, file));
        let system = setup.start().await;
        collector.wait_for(&starts_a_trace(&system).await.trace, &PUBLISHED).await;

        let setup = Setup::without_tls(Backend::Standalone).env("OTEL_BSP_SCHEDULE_DELAY", "100");
        let setup = setup.aggregator("--otlp-endpoint", &collector.endpoint(protocol));
        let setup = setup.aggregator("--otlp-protocol", protocol.name());
        let options = ["--otlp-ca", "--otlp-cert", "--otlp-key"];
        let setup = options.iter().zip(&files).fold(setup, |setup, (option, file)| setup.aggregator(option, file));
        let system = setup.start().await;
        collector.wait_for(&starts_a_trace(&system).await.trace, &PUBLISHED).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_the_programs_do_not_trust_gets_nothing_and_the_log_says_why() {
    let (authority, other) = (Authority::new(), Authority::new());
    for protocol in Protocol::ALL {
        let collector = Collector::that_demands(&Demands { tls: Some(&authority), token: None });
        let setup = collector.traces(Setup::without_tls(Backend::RedisPostgres), protocol);
        let system = setup.env("OTEL_EXPORTER_OTLP_CERTIFICATE", &other.ca().display().to_string()).start().await;
        starts_a_trace(&system).await;
        system.wait_until_stored(1).await;
        for program in [system.publisher.as_ref().expect("a publisher"), &system.aggregators[0]] {
            until_failed(program).await;
            let log = program.log().to_lowercase();
            assert!(log.contains("certificate") || log.contains("unknownissuer"), "{log}");
        }
        assert!(collector.spans().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_demands_a_certificate_takes_nothing_from_programs_without_one() {
    let authority = Authority::new();
    for protocol in Protocol::ALL {
        let collector = Collector::that_demands(&Demands { tls: Some(&authority), token: None });
        let setup = collector.traces(Setup::without_tls(Backend::Standalone), protocol);
        let system = setup.env("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority.ca().display().to_string()).start().await;
        starts_a_trace(&system).await;
        until_failed(&system.aggregators[0]).await;
        assert!(collector.spans().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_headers_of_the_settings_are_sent_and_are_in_no_log() {
    for protocol in Protocol::ALL {
        let collector = Collector::that_demands(&Demands { tls: None, token: Some(TOKEN) });
        let with = |token: &str| {
            let setup = collector.traces(Setup::without_tls(Backend::RedisPostgres), protocol);
            setup.env("OTEL_EXPORTER_OTLP_HEADERS", &format!("Authorization=Bearer%20{token}"))
        };
        let system = with("another").start().await;
        starts_a_trace(&system).await;
        system.wait_until_stored(1).await;
        for program in [system.publisher.as_ref().expect("a publisher"), &system.aggregators[0]] {
            until_failed(program).await;
        }
        assert!(collector.spans().is_empty());

        let mut system = with(TOKEN).env("SLUICE_LOG", "debug").start().await;
        collector.wait_for(&starts_a_trace(&system).await.trace, &PUBLISHED).await;
        for program in system.programs() {
            assert!(!program.log().contains(TOKEN), "{}", program.log());
        }
    }
}
