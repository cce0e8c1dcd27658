//! Requests to the API server are counted by verb.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use serde_json::json;
use support::fake;

/// Returns the samples of the counter, by verb.
fn counted(text: &str) -> BTreeMap<String, u64> {
    let samples = text.lines().filter_map(|line| line.strip_prefix("sluice_operator_api_requests_total{verb=\""));
    let samples = samples.map(|line| line.split_once("\"} ").unwrap());
    samples.map(|(verb, count)| (verb.to_owned(), count.parse().unwrap())).collect()
}

#[tokio::test]
async fn every_request_is_counted_under_its_verb() {
    let metrics = sluice_service::metrics::install();
    let server = fake::Api::default();
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "accounts");
    let mut map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    map.metadata = api.create(&PostParams::default(), &map).await.unwrap().metadata;
    map = api.get("a").await.unwrap();
    map = api.replace("a", &PostParams::default(), &map).await.unwrap();
    api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"b": "c"}}))).await.unwrap();
    api.patch("a", &PatchParams::apply("test").force(), &Patch::Apply(&map)).await.unwrap();
    for _ in 0..3 {
        api.list(&ListParams::default().labels("a=b")).await.unwrap();
    }
    assert!(api.watch(&WatchParams::default(), "0").await.is_ok());
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(api.get("a").await.is_err());

    let expected = [("create", 1), ("delete", 1), ("get", 2), ("list", 3), ("patch", 2), ("update", 1), ("watch", 1)];
    let expected = expected.map(|(verb, count)| (verb.to_owned(), count));
    assert_eq!(counted(&metrics.render()), BTreeMap::from(expected));
    assert_eq!(server.calls().len(), 11);
}
