//! Probes, metrics, the OpenAPI document, and request ids.

use serde_json::Value;
use sluice_tests::{Backend, Client, metrics};

use crate::common::{event, events, system};

on_both_backends!(
    a_running_system_is_alive_and_ready,
    each_program_has_probes_and_metrics_of_its_own,
    the_metrics_count_what_the_statistics_count,
    every_path_is_in_the_openapi_document,
    a_request_id_follows_the_event_to_its_row,
    a_request_without_an_id_gets_one,
);

async fn a_running_system_is_alive_and_ready(backend: Backend) {
    let system = system(backend).await;
    for path in ["/healthz", "/readyz"] {
        system.client.get(path).await.assert_status(200);
    }
}

async fn each_program_has_probes_and_metrics_of_its_own(backend: Backend) {
    let mut system = system(backend).await;
    let bases: Vec<_> = system.programs().map(|program| program.base()).collect();
    for base in bases {
        let client = Client::new(&base);
        for path in ["/healthz", "/readyz", "/metrics"] {
            client.get(path).await.assert_status(200);
        }
    }
}

async fn the_metrics_count_what_the_statistics_count(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..70)).await;
    system.publish_and_wait(70, &events("t", 50..80)).await;
    assert_eq!(system.aggregator_metric("sluice_events_received_total").await, 100);
    assert_eq!(system.aggregator_metric("sluice_events_unique_total").await, 80);
    assert_eq!(system.aggregator_metric("sluice_events_duplicate_total").await, 20);
    let ingest = system.client.get("/metrics").await.assert_status(200);
    assert_eq!(metrics::sum(&ingest.text, "sluice_publish_events_total"), 100.0, "{}", ingest.text);
    assert!(ingest.text.contains("# TYPE"), "Prometheus text: {}", ingest.text);
}

async fn every_path_is_in_the_openapi_document(backend: Backend) {
    let system = system(backend).await;
    let document = system.client.get_json("/openapi.json").await;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    let paths = document["paths"].as_object().expect("paths");
    for (path, method) in [
        ("/publish", "post"),
        ("/events", "get"),
        ("/events/tail", "get"),
        ("/events/{topic}/{event_id}", "get"),
        ("/topics", "get"),
        ("/", "get"),
        ("/ui/{asset}", "get"),
        ("/overview", "get"),
        ("/stats", "get"),
        ("/stats/series", "get"),
        ("/meters", "get"),
        ("/meters/{name}", "get"),
        ("/meters/{name}", "put"),
        ("/meters/{name}", "delete"),
        ("/meters/query", "post"),
        ("/events/{topic}/{event_id}", "delete"),
        ("/conflicts", "get"),
        ("/outcomes/{receipt}", "get"),
        ("/schemas", "get"),
        ("/topics/{topic}/schema", "get"),
        ("/topics/{topic}/schema", "put"),
        ("/topics/{topic}/schema", "delete"),
        ("/topics/{topic}/schema/versions", "get"),
        ("/dead-letters", "get"),
        ("/dead-letters/{id}", "delete"),
        ("/dead-letters/replay", "post"),
        ("/dead-letters/{id}/replay", "post"),
    ] {
        let operation = &paths.get(path).unwrap_or(&Value::Null)[method];
        assert!(operation["responses"].is_object(), "{method} {path} is missing: {:?}", paths.keys());
    }
    // The target of each reference exists.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap_or_default();
        assert!(document.pointer(pointer).is_some(), "{pointer} is not in the document");
    }
}

async fn a_request_id_follows_the_event_to_its_row(backend: Backend) {
    let system = system(backend).await;
    let id = "0195f3a0-1111-4222-8333-444455556666";
    let request = system.client.request("POST", "/publish").header("Content-Type", "application/json");
    let request = request.header("X-Request-Id", id);
    let answer = system.client.send(request.body(event("t", "1").to_string())).await.assert_status(202);
    assert_eq!(answer.headers["x-request-id"], id);
    system.wait_until_stored(1).await;
    assert_eq!(system.client.get_json("/events/t/1").await["request_id"], id);
}

async fn a_request_without_an_id_gets_one(backend: Backend) {
    let system = system(backend).await;
    let ids: Vec<_> = [system.client.get("/stats").await, system.client.publish_raw("nonsense").await]
        .iter()
        .map(|answer| answer.headers["x-request-id"].to_str().unwrap().to_owned())
        .collect();
    assert!(ids.iter().all(|id| id.len() == 36) && ids[0] != ids[1], "{ids:?}");
}
