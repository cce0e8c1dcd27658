//! Authentication of a resource: the tokens of its user, JWTs, and the token of the operator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::trial::{DEPLOYMENT, SECRETS, SETS, Trial};

const ITEM: &str =
    "- name: shop\n  sha256: '6f5be7d36f5be7d36f5be7d36f5be7d36f5be7d36f5be7d36f5be7d36f5be7d3'\n  scopes: [publish]\n";

fn put_tokens(trial: &Trial, content: &str) {
    let secret = support::secret("accounts", "clients", "tokens.yaml", content);
    trial.api.put(&format!("{SECRETS}/clients"), serde_json::to_value(secret).unwrap());
}

fn authenticated(content: &str) -> Trial {
    let trial = Trial::new();
    put_tokens(&trial, content);
    trial.change_spec(|spec| spec["auth"] = json!({"tokens": {"name": "clients"}, "eventsPerSecond": 1000}));
    trial
}

/// Returns a value of a Secret.
fn value(trial: &Trial, secret: &str, key: &str) -> String {
    let secret = trial.api.get(&format!("{SECRETS}/{secret}")).unwrap();
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap()
}

fn container(trial: &Trial, path: &str) -> Value {
    trial.api.get(path).unwrap()["spec"]["template"]["spec"]["containers"][0].clone()
}

#[tokio::test]
async fn programs_accept_the_tokens_of_the_user_and_that_of_the_operator() {
    let trial = authenticated(ITEM);
    trial.reconcile().await.unwrap();
    let file = value(&trial, "ledger-tokens", "tokens.yaml");
    sluice_auth::check_tokens(file.as_bytes()).unwrap();
    assert!(file.contains("name: shop") && file.contains("name: sluice-operator"), "{file}");
    let token = value(&trial, "ledger-operator-token", "token");
    for path in [DEPLOYMENT, &format!("{SETS}/ledger-aggregator")] {
        let container = container(&trial, path);
        let env = container["env"].as_array().unwrap();
        for expected in [
            json!({"name": "SLUICE_TOKENS", "value": "/etc/sluice-tokens/tokens.yaml"}),
            json!({"name": "SLUICE_EVENTS_PER_SECOND", "value": "1000"}),
            json!({"name": "SLUICE_METRICS_LISTEN", "value": "[::]:9090"}),
        ] {
            assert!(env.contains(&expected), "{expected} is not in {env:?}");
        }
        assert_eq!(container["readinessProbe"]["httpGet"]["port"], "metrics");
    }

    // Other tokens replace no pods, and the token of the operator stays.
    let before = trial.api.get(DEPLOYMENT).unwrap()["spec"]["template"].clone();
    put_tokens(&trial, &ITEM.replace("shop", "till"));
    trial.reconcile().await.unwrap();
    let file = value(&trial, "ledger-tokens", "tokens.yaml");
    assert!(file.contains("name: till") && !file.contains("name: shop"), "{file}");
    assert_eq!(value(&trial, "ledger-operator-token", "token"), token);
    assert_eq!(trial.api.get(DEPLOYMENT).unwrap()["spec"]["template"], before);
}

#[tokio::test]
async fn a_wrong_file_of_tokens_is_refused_by_item_and_what_was_before_stays() {
    let trial = authenticated(ITEM);
    trial.reconcile().await.unwrap();
    let before = value(&trial, "ledger-tokens", "tokens.yaml");
    put_tokens(&trial, &ITEM.replace("publish", "write"));
    trial.reconcile().await.unwrap_err();
    let ready = trial.condition("Ready");
    assert_eq!(ready["reason"], "SecretInvalid");
    let message = ready["message"].as_str().unwrap();
    assert!(message.contains("clients") && message.contains("item 1 (shop): scopes"), "{message}");
    assert_eq!(value(&trial, "ledger-tokens", "tokens.yaml"), before);
    trial.api.remove(&format!("{SECRETS}/clients"));
    trial.reconcile().await.unwrap_err();
    assert_eq!(trial.condition("Ready")["reason"], "SecretMissing");
}

#[tokio::test]
async fn the_issuer_of_jwts_can_be_reached_and_nothing_else() {
    let trial = Trial::new();
    let ca = support::tls::certificate("accounts", "issuer", &["login.example"]);
    trial.api.put(&format!("{SECRETS}/issuer"), serde_json::to_value(ca).unwrap());
    trial.change_spec(|spec| {
        spec["auth"] = json!({"jwt": {
            "issuer": "https://login.example", "audience": "events", "jwksUrl": "https://login.example:8443/keys",
            "caSecret": {"name": "issuer"}, "cidrs": ["10.9.0.0/16"], "scopesClaim": "roles"
        }});
    });
    trial.reconcile().await.unwrap();
    let container = container(&trial, DEPLOYMENT);
    let env = container["env"].as_array().unwrap();
    for (name, value) in [
        ("SLUICE_JWT_ISSUER", "https://login.example"),
        ("SLUICE_JWT_JWKS", "https://login.example:8443/keys"),
        ("SLUICE_JWT_CA", "/etc/sluice-jwt-ca/ca.crt"),
        ("SLUICE_JWT_SCOPES_CLAIM", "roles"),
    ] {
        assert!(env.contains(&json!({"name": name, "value": value})), "{name} is not in {env:?}");
    }
    for component in ["publisher", "aggregator"] {
        let policy = format!("/apis/networking.k8s.io/v1/namespaces/accounts/networkpolicies/ledger-{component}");
        let rules = trial.api.get(&policy).unwrap()["spec"]["egress"].clone();
        let ports = json!([{"protocol": "TCP", "port": 8443}]);
        let expected = json!({"ports": ports, "to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}]});
        assert!(rules.as_array().unwrap().contains(&expected), "{rules}");
    }
    // Nobody has a token but the operator.
    let file = value(&trial, "ledger-tokens", "tokens.yaml");
    assert_eq!(file.matches("sha256").count(), 1, "{file}");
}
