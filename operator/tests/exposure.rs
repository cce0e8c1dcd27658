//! The ways in which clients outside the cluster reach the publishers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::trial::Trial;

const INGRESS: &str = "/apis/networking.k8s.io/v1/namespaces/accounts/ingresses/ledger-publisher";
const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/accounts/httproutes/ledger-publisher";

#[tokio::test]
async fn an_ingress_leads_its_hosts_to_the_publishers_and_goes_with_its_field() {
    let trial = Trial::new();
    trial.change_spec(|spec| {
        spec["publisher"]["ingress"] = json!({
            "className": "internal", "hosts": ["events.example.com", "*.shop.example.com"],
            "tlsSecretName": "events-certificate", "annotations": {"cert-manager.io/cluster-issuer": "main"}
        });
    });
    trial.reconcile().await.unwrap();
    let ingress = trial.api.get(INGRESS).unwrap();
    assert_eq!(ingress["metadata"]["annotations"]["cert-manager.io/cluster-issuer"], "main");
    let backend = json!({"service": {"name": "ledger-publisher", "port": {"name": "http"}}});
    let http = json!({"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]});
    assert_eq!(
        ingress["spec"],
        json!({
            "ingressClassName": "internal",
            "rules": [{"host": "events.example.com", "http": http}, {"host": "*.shop.example.com", "http": http}],
            "tls": [{"hosts": ["events.example.com", "*.shop.example.com"], "secretName": "events-certificate"}]
        })
    );
    trial.change_spec(|spec| spec["publisher"]["ingress"] = Value::Null);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(INGRESS), None);
}

#[tokio::test]
async fn an_ingress_without_hosts_takes_all_requests() {
    let trial = Trial::new();
    trial.change_spec(|spec| spec["publisher"]["ingress"] = json!({}));
    trial.reconcile().await.unwrap();
    let spec = trial.api.get(INGRESS).unwrap()["spec"].clone();
    assert_eq!(spec["rules"].as_array().unwrap().len(), 1);
    assert_eq!((&spec["rules"][0]["host"], &spec["tls"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_route_of_the_gateway_api_leads_to_the_publishers_and_goes_with_its_field() {
    let trial = Trial::new();
    let gateway = json!({"name": "edge", "namespace": "gateways", "sectionName": "https"});
    trial.change_spec(|spec| {
        spec["publisher"]["httpRoute"] = json!({"parentRefs": [gateway], "hostnames": ["events.example.com"]});
    });
    trial.reconcile().await.unwrap();
    let route = trial.api.get(ROUTE).unwrap();
    assert_eq!(
        route["spec"],
        json!({
            "parentRefs": [gateway], "hostnames": ["events.example.com"],
            "rules": [{"backendRefs": [{"name": "ledger-publisher", "port": 8080}]}]
        })
    );
    assert_eq!(route["metadata"]["ownerReferences"][0]["name"], "ledger");
    trial.change_spec(|spec| spec["publisher"]["httpRoute"] = Value::Null);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(ROUTE), None);
}

#[tokio::test]
async fn without_the_gateway_api_only_a_resource_that_needs_it_is_refused() {
    let trial = Trial::new();
    trial.api.refuse("LIST httproutes", 404);
    trial.reconcile().await.unwrap();
    trial.change_spec(|spec| spec["publisher"]["httpRoute"] = json!({"parentRefs": [{"name": "edge"}]}));
    trial.reconcile().await.unwrap_err();
    let ready = trial.condition("Ready");
    assert_eq!(ready["reason"], "Invalid");
    let message = ready["message"].as_str().unwrap();
    assert!(message.contains("spec.publisher.httpRoute") && message.contains("Gateway API"), "{message}");
}
