//! An image that cannot be pulled.

use serde_json::{Value, json};
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::{containers, kubectl_in, says};
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON};
use crate::support::trial::{NAME, Trial};

const MISSING: &str = "sluice-aggregator:no-such-tag";
const REASON: &str = "ImagePullBackOff";

/// Waits until the resource has an event with this reason, and returns it.
async fn event(namespace: &Namespace, reason: &str) -> Value {
    let selector = format!("involvedObject.kind=EventAggregator,involvedObject.name={NAME},reason={reason}");
    wait_until(&format!("an event has reason {reason}"), SOON, || async {
        let events = kubectl_in(namespace, &["get", "events", "--field-selector", &selector, "-o", "json"]).await;
        let events: Value = serde_json::from_str(&events).expect("events");
        let found = events["items"].as_array().and_then(|events| events.first().cloned());
        found.ok_or_else(|| "no such event".to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_image_is_said_and_harms_nothing_and_mending_it_is_enough() {
    let mut trial = Trial::begin("bad image, then a good one", "bad-image", 2).await;
    let namespace = trial.namespace().clone();
    trial.load(Load { events: 12_000, rate: 500, ..Load::default() }).await;
    let before = containers(&namespace).await;
    let held = trial.hold().await;
    namespace.patch(NAME, json!({ "spec": { "images": { "aggregator": MISSING } } })).await;
    held.release();
    trial.fault(held.pending);

    let (reason, message) = says(&namespace, "Ready", "False", REASON).await;
    assert_eq!(reason, REASON, "{message}");
    for word in ["AggregatorReady", "shop-aggregator-1", MISSING] {
        assert!(message.contains(word), "{message:?} does not name {word}");
    }
    let (reason, message) = says(&namespace, "Progressing", "False", MISSING).await;
    assert_eq!(reason, "Stalled", "{message}");
    assert_eq!(namespace.condition(NAME, "PublisherReady", "True").await.0, "Ready");
    let told = event(&namespace, REASON).await;
    assert_eq!(told["type"], "Warning", "{told:#}");
    assert!(told["message"].as_str().is_some_and(|message| message.contains(MISSING)), "{told:#}");

    // The aggregator that is not replaced yet continues to store events.
    trial.send(Load::fast(2_000)).await;
    trial.more(500).await;
    let during = containers(&namespace).await;
    let oldest = |all: &super::Containers| {
        all["aggregator"].iter().find(|container| container.starts_with("shop-aggregator-0 ")).cloned()
    };
    assert_eq!(oldest(&during), oldest(&before), "the aggregator that was not replaced yet still runs");
    for part in ["publisher", "redis", "postgres"] {
        assert_eq!(during[part], before[part], "{part}");
    }

    namespace.patch(NAME, json!({ "spec": { "images": { "aggregator": null } } })).await;
    namespace.ready(NAME).await;
    let after = wait_until("both aggregators run", SOON, || async {
        let after = containers(&namespace).await;
        holds(after["aggregator"].len() == 2, || format!("{after:#?}")).map(|()| after)
    })
    .await;
    assert_eq!(oldest(&after), oldest(&before), "its image is the right one, so it is not replaced");
    trial.end().await;
}
