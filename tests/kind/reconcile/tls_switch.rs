//! TLS is switched on and off while events are in flight.

use std::time::Instant;

use serde_json::json;

use crate::support::load::Load;
use crate::support::trial::{NAME, Trial};

/// Events of each load.
const EVENTS: u32 = 6_000;

/// Switches TLS.
async fn switch(trial: &Trial, enabled: bool) {
    trial.namespace().patch(NAME, json!({ "spec": { "tls": { "enabled": enabled } } })).await;
}

/// Waits until the resource is Ready, and returns the seconds since the switch.
async fn ready_since(trial: &Trial, switched: Instant) -> f64 {
    trial.namespace().ready(NAME).await;
    switched.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_switched_on_and_off_under_load_loses_nothing_that_was_accepted() {
    let mut trial = Trial::begin("TLS on and off", "tls-switch", 2).await;
    let plain = Load { events: EVENTS, rate: 600, verify: false, ..Load::default() };
    let sealed = Load { tls: true, ..plain.clone() };

    trial.send(plain.clone()).await;
    trial.stored(1).await;
    let held = trial.hold().await;
    // The plain load ends before the first publisher with TLS, and a part of what it sent waits in Redis meanwhile: a client
    // that speaks the wrong protocol is told so at once, and gives up.
    trial.finished().await;
    trial.unwatch();
    let switched = Instant::now();
    switch(&trial, true).await;
    held.release();
    trial.fault(held.pending);
    let on = ready_since(&trial, switched).await;

    trial.send(sealed).await;
    trial.finished().await;
    let switched = Instant::now();
    switch(&trial, false).await;
    trial.fault_elsewhere();
    let off = ready_since(&trial, switched).await;
    trial.send(plain).await;
    trial.note(format!("ready again {on:.0} s after TLS was switched on, and {off:.0} s after it was switched off"));
    trial.end().await;
}
