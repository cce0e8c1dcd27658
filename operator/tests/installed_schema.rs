//! An operator that is newer than the installed CustomResourceDefinition says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use sluice_operator::crd;
use sluice_operator::installed_schema::InstalledSchema;
use support::fake::Api;

const PUBLISHED: &str = "/openapi/v3/apis/sluice.dev/v1alpha1";

/// Publishes the operator's own schema as an API server does, after a change.
fn publish(api: &Api, change: impl FnOnce(&mut Value)) {
    let own = serde_json::to_value(crd::crd()).unwrap();
    let mut schema = own["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": "sluice.dev", "version": "v1alpha1", "kind": "EventAggregator"}]);
    schema["properties"]["metadata"] = json!({"$ref": "#/components/schemas/ObjectMeta"});
    change(&mut schema);
    let list = json!({"x-kubernetes-group-version-kind": [{"kind": "EventAggregatorList"}]});
    let schemas =
        json!({"dev.sluice.v1alpha1.EventAggregator": schema, "dev.sluice.v1alpha1.EventAggregatorList": list});
    api.put(PUBLISHED, json!({"components": {"schemas": schemas}}));
}

#[tokio::test]
async fn a_schema_that_lacks_fields_is_reported_with_their_names_until_it_is_replaced() {
    let (api, installed) = (Api::default(), InstalledSchema::default());
    let client = api.client();
    assert!(installed.compare(&client).await.is_err(), "nothing is installed");
    assert_eq!(installed.note(), None, "it is not known to lack anything");

    publish(&api, |schema| {
        let spec = schema["properties"]["spec"]["properties"].as_object_mut().unwrap();
        spec.remove("networkPolicy").unwrap();
        spec["publisher"]["properties"].as_object_mut().unwrap().remove("limits").unwrap();
    });
    installed.compare(&client).await.unwrap();
    let note = installed.note().unwrap();
    assert!(note.contains("the fields spec.networkPolicy, spec.publisher.limits of resources"), "{note}");

    publish(&api, |schema| schema["properties"]["spec"]["properties"]["newer"] = json!({"type": "string"}));
    installed.compare(&client).await.unwrap();
    assert_eq!(installed.note(), None, "a newer one drops nothing");
}
