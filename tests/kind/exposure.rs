//! The ways in which clients outside the cluster reach the publishers. A test cluster has no controller of Ingresses or
//! Gateways, so these tests show that the API server accepts what the operator writes, and that drift is put right.

use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::definitions::Definitions;
use crate::support::objects::{SOON, kubectl_in, object};
use crate::support::trial::{NAME, Stage, create, small};

const GATEWAY_API: Definitions = Definitions {
    module: "sigs.k8s.io/gateway-api",
    repository: "kubernetes-sigs/gateway-api",
    version: "v1.4.0",
    sum: "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=",
    files: &["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingress_and_a_route_are_accepted_put_right_and_removed() {
    GATEWAY_API.install().await;
    let stage = Stage::shared("exposure").await;
    let namespace = &stage.namespace;
    let mut spec = small(1);
    spec["publisher"]["ingress"] = json!({
        "className": "internal", "hosts": ["events.example.com", "*.shop.example.com"], "tlsSecretName": "certificate",
        "annotations": { "example.com/size": "16m" }
    });
    spec["publisher"]["httpRoute"] = json!({
        "parentRefs": [{ "name": "edge", "namespace": "gateways", "sectionName": "https" }],
        "hostnames": ["events.example.com"]
    });
    create(namespace, NAME, spec).await;
    namespace.ready(NAME).await;
    let ingress = object(namespace, "ingress", "shop-publisher").await;
    assert_eq!(ingress["spec"]["rules"].as_array().map(Vec::len), Some(2), "{ingress}");
    assert_eq!(ingress["metadata"]["annotations"]["example.com/size"], "16m");
    let route = object(namespace, "httproute", "shop-publisher").await;
    assert_eq!(route["spec"]["rules"][0]["backendRefs"][0]["name"], "shop-publisher", "{route}");

    kubectl_in(namespace, &["delete", "ingress", "shop-publisher"]).await;
    let change = json!({ "spec": { "hostnames": ["stolen.example.com"] } }).to_string();
    kubectl_in(namespace, &["patch", "httproute", "shop-publisher", "--type=merge", "-p", &change]).await;
    wait_until("both are put right", SOON, || async {
        let (ingress, route) = (
            object(namespace, "ingress", "shop-publisher").await,
            object(namespace, "httproute", "shop-publisher").await,
        );
        let right = !ingress.is_null() && route["spec"]["hostnames"] == json!(["events.example.com"]);
        holds(right, || format!("{ingress} {route}"))
    })
    .await;

    namespace.patch(NAME, json!({ "spec": { "publisher": { "ingress": null, "httpRoute": null } } })).await;
    wait_until("both are removed", SOON, || async {
        let (ingress, route) = (
            object(namespace, "ingress", "shop-publisher").await,
            object(namespace, "httproute", "shop-publisher").await,
        );
        holds(ingress.is_null() && route.is_null(), || format!("{ingress} {route}"))
    })
    .await;
    namespace.ready(NAME).await;
}
