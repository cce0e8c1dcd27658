//! Credentials that change while requests go on: none fails that should not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, metrics, wait_until};
use tokio::task::JoinHandle;

use super::{TokenFile, make, start};
use crate::common::event;

on_both_backends!(a_token_is_rotated_and_a_wrong_file_is_reported_while_requests_go_on);

const SOON: Duration = Duration::from_secs(120);

/// Publishes one event after the other with a token until it is stopped. Every answer must be 202.
pub struct Load {
    accepted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    running: JoinHandle<()>,
}

impl Load {
    pub fn start(client: Client, name: &'static str) -> Self {
        let (accepted, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (accepted.clone(), stop.clone());
        let running = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let number = counted.load(Ordering::Relaxed);
                let answer = client.publish_raw(event("t", &format!("{name}-{number}")).to_string()).await;
                assert_eq!(answer.status, 202, "{name}: {}", answer.text);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { accepted, stop, running }
    }

    /// Waits until further requests have been accepted.
    pub async fn goes_on(&self) {
        let before = self.accepted.load(Ordering::Relaxed);
        wait_until("requests go on", SOON, || async {
            let now = self.accepted.load(Ordering::Relaxed);
            holds(now >= before + 20 || self.running.is_finished(), || format!("{} more", now - before))
        })
        .await;
    }

    /// Stops, and returns how many events were accepted.
    pub async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.expect("no request fails");
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn a_token_is_rotated_and_a_wrong_file_is_reported_while_requests_go_on(backend: Backend) {
    let file = TokenFile::new();
    let admin = file.add("--name operator --scope read --scope admin").await;
    let rest = file.content();
    let old = file.add("--name shop --scope publish").await;
    let mut system = start(backend, &file).await;
    let nobody = system.client.clone();
    system.client = nobody.with_token(&admin);
    let status = async |token: &str| nobody.with_token(token).publish_raw("[]").await.status;
    let load = Load::start(nobody.with_token(&old), "old");
    load.goes_on().await;

    // The next token is accepted beside the old one.
    let (new, item) = make("--name shop --scope publish").await;
    assert_eq!(status(&new).await, 401);
    file.replace(&(file.content() + &item));
    wait_until("the next token is accepted", SOON, || async {
        let status = status(&new).await;
        holds(status != 401, || status.to_string())
    })
    .await;
    load.goes_on().await;
    let next = Load::start(nobody.with_token(&new), "new");
    next.goes_on().await;

    // A wrong file is reported, and changes nothing.
    file.replace("- name: shop\n  scope: [publish]\n");
    let aggregators = system.aggregators.iter().map(|program| Client::new(&program.base()).with_token(&admin));
    let servers: Vec<_> = aggregators.chain([system.client.clone()]).collect();
    for server in &servers {
        wait_until("the wrong file is reported", SOON, || async {
            let text = server.get("/metrics").await.text;
            let current = metrics::sum(&text, "sluice_auth_source_current");
            holds(current == 0.0 && metrics::sum(&text, "sluice_auth_source_failures_total") == 1.0, || text)
        })
        .await;
    }
    let log = system.ingest().log();
    assert!(log.contains("item 1 (shop): sha256: is missing") && log.contains("stays in force"), "{log}");
    load.goes_on().await;
    let accepted = load.end().await;

    // Without its item, the old token ends, and the other goes on.
    file.replace(&(rest + &item));
    wait_until("the old token ends", SOON, || async {
        let status = status(&old).await;
        holds(status == 401, || status.to_string())
    })
    .await;
    next.goes_on().await;
    let accepted = accepted + next.end().await;
    for server in &servers {
        wait_until("the file is in force", SOON, || async {
            let text = server.get("/metrics").await.text;
            holds(metrics::sum(&text, "sluice_auth_source_current") == 1.0, || text)
        })
        .await;
    }
    system.wait_until_stored(accepted).await;
}
