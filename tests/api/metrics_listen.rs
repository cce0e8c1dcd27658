//! Metrics and probes at an address of their own.

use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_tests::program::{Program, find};
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, metrics, process, wait_until};

use crate::common::events;

on_both_backends!(metrics_and_probes_are_served_without_tls_at_an_address_of_their_own);

/// Returns the URL of a program's metrics, which it has logged.
async fn metrics_base(program: &Program) -> String {
    let main = program.address();
    wait_until("it says where it listens", Duration::from_secs(60), || async {
        let log = program.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let listening = lines.filter(|line| line["fields"]["message"] == "listening");
        let addresses = listening.filter_map(|line| line["fields"]["address"].as_str().map(str::to_owned));
        let mut addresses = addresses;
        addresses.find(|address| *address != main).map(|address| format!("http://{address}")).ok_or(log)
    })
    .await
}

async fn metrics_and_probes_are_served_without_tls_at_an_address_of_their_own(backend: Backend) {
    let setup = Setup::new(backend).over_tls().await.env("SLUICE_METRICS_LISTEN", "127.0.0.1:0");
    let mut system = setup.start().await;
    system.publish_and_wait(0, &events("t", 0..20)).await;
    for program in system.programs() {
        let (main, own) = (Client::new(&program.base()), metrics_base(program).await);
        // The publisher must not ask an aggregator for them either.
        main.get("/metrics").await.assert_problem(404, "not_found");
        main.post("/metrics").await.assert_problem(404, "not_found");
        for path in ["/healthz", "/readyz"] {
            main.get(path).await.assert_status(200);
        }
        let client = Client::new(&own);
        for path in ["/healthz", "/readyz"] {
            client.get(path).await.assert_status(200);
        }
        for path in ["/stats", "/publish", "/events", "/"] {
            client.get(path).await.assert_problem(404, "not_found");
        }
        let text = client.get("/metrics").await.assert_status(200).text;
        assert!(metrics::sum(&text, "process_resident_memory_bytes") > 0.0, "{text}");
        // A check of its health needs no certificate there.
        let mut command: Command = process::command(&find(program.binary_name()), None);
        command.args(["healthcheck", "--url", &own]).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let ingest = metrics_base(system.ingest()).await;
    wait_until("the events are counted", Duration::from_secs(60), || async {
        let text = Client::new(&ingest).get("/metrics").await.text;
        holds(metrics::sum(&text, "sluice_publish_events_total") == 20.0, || text)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_metrics_that_is_taken_ends_the_program_with_the_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = sluice_tests::dirs::fresh("metrics").display().to_string();
    let mut command: Command = process::command(&find("sluice-aggregator"), None);
    command.args(["standalone", "--listen", "127.0.0.1:0", "--data", &data, "--metrics-listen", &address]);
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address), "{output:?}");
}
