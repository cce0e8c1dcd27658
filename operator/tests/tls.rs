//! Certificates of a resource, on a fake API server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use sluice_operator::certificates::inspect;
use sluice_operator::certificates::issue::{LEAF_LIFE, Pair, leaf};
use support::tls::{certificate, ending_in, value, with};
use support::trial::{DEPLOYMENT, RESOURCE, SECRETS, SETS, Trial};

const LEAVES: [&str; 4] = ["ledger-aggregator-tls", "ledger-postgres-tls", "ledger-publisher-tls", "ledger-redis-tls"];
const CLIENT: &str = "ledger-client-tls";

/// Returns a resource with this setting of TLS, which has been reconciled and whose pods run.
async fn trial(tls: Value) -> Trial {
    let trial = Trial::new();
    trial.change_spec(|spec| spec["tls"] = tls);
    let _ = trial.reconcile().await;
    trial
}

async fn running(tls: Value) -> Trial {
    let trial = trial(tls).await;
    for (component, size) in [("redis", "3Gi"), ("postgres", "20Gi")] {
        trial.make_pvc(component, size);
    }
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    trial.reconcile().await.unwrap();
    trial.api.calls();
    trial
}

fn secret(trial: &Trial, name: &str) -> Secret {
    serde_json::from_value(trial.api.get(&format!("{SECRETS}/{name}")).unwrap_or_else(|| panic!("no Secret {name}")))
        .unwrap()
}

fn put(trial: &Trial, secret: &Secret) {
    let path = format!("{SECRETS}/{}", secret.metadata.name.as_ref().unwrap());
    trial.api.put(&path, serde_json::to_value(secret).unwrap());
}

fn is_trusted(trial: &Trial, server: &str, name: &str) -> Result<(), String> {
    let server = secret(trial, server);
    let chain = inspect::certificates(&value(&server, "tls.crt")).unwrap();
    inspect::is_trusted(&chain, &value(&server, "ca.crt"), name, Timestamp::now())
}

fn status(trial: &Trial) -> Value {
    trial.api.get(RESOURCE).unwrap()["status"].clone()
}

#[tokio::test]
async fn each_component_gets_a_certificate_for_the_names_of_its_service() {
    let trial = running(json!({"enabled": true, "publisherNames": ["events.example", "10.0.0.7"]})).await;
    for name in LEAVES {
        let secret = secret(&trial, name);
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"), "{name}");
        let labels = secret.metadata.labels.unwrap();
        assert_eq!(labels["app.kubernetes.io/instance"], "ledger", "{name}");
        assert_eq!(labels["app.kubernetes.io/managed-by"], "sluice-operator", "{name}");
        assert_eq!(secret.metadata.owner_references.unwrap()[0].kind, "EventAggregator", "{name}");
        let service = name.trim_end_matches("-tls");
        for suffix in ["", ".accounts", ".accounts.svc", ".accounts.svc.cluster.local"] {
            assert_eq!(is_trusted(&trial, name, &format!("{service}{suffix}")), Ok(()));
        }
    }
    for name in ["events.example", "10.0.0.7"] {
        assert_eq!(is_trusted(&trial, "ledger-publisher-tls", name), Ok(()));
        assert!(is_trusted(&trial, "ledger-redis-tls", name).is_err(), "they are names of the publishers alone");
    }
    assert_eq!(
        is_trusted(&trial, "ledger-aggregator-tls", "ledger-aggregator-0.ledger-aggregator-pods.accounts.svc"),
        Ok(())
    );
    let status = status(&trial);
    let listed: Vec<_> =
        status["certificates"].as_array().unwrap().iter().map(|one| one["secretName"].clone()).collect();
    assert_eq!(
        listed,
        [
            "ledger-aggregator-tls",
            "ledger-tls-ca",
            CLIENT,
            "ledger-postgres-tls",
            "ledger-publisher-tls",
            "ledger-redis-tls"
        ]
    );
    assert_eq!(status["endpoint"], "https://ledger-publisher.accounts.svc:8080");
    assert_eq!(trial.condition("Ready")["reason"], "AllReady");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0], "in a steady state nothing is written");
}

#[tokio::test]
async fn aggregators_accept_the_certificate_that_publishers_and_the_operator_show() {
    let trial = running(json!({"enabled": true})).await;
    let client = secret(&trial, CLIENT);
    let chain = inspect::certificates(&value(&client, "tls.crt")).unwrap();
    // Aggregators mount the CA of this Secret, and publishers its certificate.
    assert_eq!(inspect::is_trusted_client(&chain, &value(&client, "ca.crt"), Timestamp::now()), Ok(()));
    let set = trial.api.get(&format!("{SETS}/ledger-aggregator")).unwrap();
    let mounted = |object: &Value| {
        let volumes = object["spec"]["template"]["spec"]["volumes"].as_array().cloned().unwrap();
        let of_client = volumes.into_iter().find(|volume| volume["secret"]["secretName"] == CLIENT).unwrap();
        let items = of_client["secret"]["items"].as_array().cloned().unwrap();
        items.into_iter().map(|item| item["key"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(mounted(&set), ["ca.crt"]);
    assert_eq!(mounted(&trial.api.get(DEPLOYMENT).unwrap()), ["tls.crt", "tls.key"]);
}

#[tokio::test]
async fn a_client_certificate_of_others_that_aggregators_would_not_accept_is_refused() {
    let trial = trial(json!({"enabled": true, "secrets": {"client": "own"}})).await;
    assert_eq!(trial.condition("Ready")["reason"], "SecretMissing");
    assert!(trial.condition("Ready")["message"].as_str().unwrap().contains("spec.tls.secrets.client"));
    let (own, other) = (certificate("accounts", "own", &["a"]), certificate("accounts", "other", &["a"]));
    put(&trial, &with(own.clone(), "ca.crt", Some(&value(&other, "ca.crt"))));
    let _ = trial.reconcile().await;
    let ready = trial.condition("Ready");
    assert_eq!(ready["reason"], "SecretInvalid");
    assert!(ready["message"].as_str().unwrap().contains("aggregators"), "{ready}");
    put(&trial, &own);
    trial.reconcile().await.unwrap();
    assert!(trial.api.get(&format!("{SECRETS}/{CLIENT}")).is_none(), "the operator issues none beside it");
}

#[tokio::test]
async fn without_tls_there_are_no_certificates() {
    let trial = running(json!({})).await;
    assert!(trial.api.get(&format!("{SECRETS}/ledger-tls-ca")).is_none());
    assert_eq!(status(&trial)["certificates"], Value::Null);
    assert_eq!(status(&trial)["endpoint"], "http://ledger-publisher.accounts.svc:8080");
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_and_no_pod_is_replaced() {
    let trial = running(json!({"enabled": true})).await;
    let before = secret(&trial, "ledger-redis-tls");
    // The same certificate, issued 61 days ago.
    let ca = secret(&trial, "ledger-tls-ca");
    let text = |key| String::from_utf8(value(&ca, key)).unwrap();
    let names = inspect::first(&value(&before, "tls.crt")).unwrap().names;
    let issued = Timestamp::now() - SignedDuration::from_hours(61 * 24);
    let old = leaf(&Pair { cert: text("tls.crt"), key: text("tls.key") }, "ledger-redis", &names, issued).unwrap();
    let due = with(with(before, "tls.crt", Some(old.cert.as_bytes())), "tls.key", Some(old.key.as_bytes()));
    put(&trial, &due);
    // The CA has just been made. One that clients know is older.
    trial.reconcile().await.unwrap();
    let writes = trial.api.writes();
    assert!(writes.iter().all(|write| write.ends_with("/status")), "it waits until clients know the CA: {writes:?}");
    let known = Timestamp::now() - SignedDuration::from_hours(3);
    let ca = sluice_operator::certificates::issue::authority("accounts", "ledger", known).unwrap();
    let old = leaf(&ca, "ledger-redis", &names, issued).unwrap();
    put(&trial, &with(with(due, "tls.crt", Some(old.cert.as_bytes())), "tls.key", Some(old.key.as_bytes())));
    let own = with(secret(&trial, "ledger-tls-ca"), "tls.crt", Some(ca.cert.as_bytes()));
    put(&trial, &with(own, "tls.key", Some(ca.key.as_bytes())));
    trial.reconcile().await.unwrap();
    let writes = trial.api.writes();
    assert!(writes.contains(&"MERGE secrets/ledger-redis-tls".to_owned()), "{writes:?}");
    assert!(writes.iter().all(|write| write.contains("secrets/") || write.contains("/status")), "{writes:?}");
    assert_eq!(is_trusted(&trial, "ledger-redis-tls", "ledger-redis.accounts.svc"), Ok(()));
    let end = inspect::first(&value(&secret(&trial, "ledger-redis-tls"), "tls.crt")).unwrap().not_after;
    assert!(end.duration_since(Timestamp::now()) > LEAF_LIFE - SignedDuration::from_mins(1), "{end}");
}

#[tokio::test]
async fn a_deleted_certificate_is_issued_anew_and_one_that_somebody_damaged_too() {
    let trial = running(json!({"enabled": true})).await;
    let before = value(&secret(&trial, "ledger-redis-tls"), "tls.crt");
    trial.api.remove(&format!("{SECRETS}/ledger-redis-tls"));
    put(&trial, &with(secret(&trial, "ledger-postgres-tls"), "tls.key", Some(b"x")));
    trial.reconcile().await.unwrap();
    let mut writes = trial.api.writes();
    writes.retain(|write| !write.contains("/status"));
    writes.sort();
    assert_eq!(writes, ["CREATE secrets", "MERGE secrets/ledger-postgres-tls"]);
    assert_ne!(value(&secret(&trial, "ledger-redis-tls"), "tls.crt"), before);
    for (name, host) in [("ledger-redis-tls", "ledger-redis"), ("ledger-postgres-tls", "ledger-postgres")] {
        assert_eq!(is_trusted(&trial, name, host), Ok(()));
    }
}

#[tokio::test]
async fn a_new_ca_is_added_to_what_clients_trust_and_the_former_one_stays() {
    let trial = running(json!({"enabled": true})).await;
    let former = value(&secret(&trial, "ledger-tls-ca"), "tls.crt");
    let leaf = value(&secret(&trial, "ledger-redis-tls"), "tls.crt");
    trial.api.remove(&format!("{SECRETS}/ledger-tls-ca"));
    trial.reconcile().await.unwrap();
    let redis = secret(&trial, "ledger-redis-tls");
    assert_eq!(value(&redis, "tls.crt"), leaf, "it stays until it is due");
    let bundle = String::from_utf8(value(&redis, "ca.crt")).unwrap();
    let new = String::from_utf8(value(&secret(&trial, "ledger-tls-ca"), "tls.crt")).unwrap();
    assert!(bundle.contains(std::str::from_utf8(&former).unwrap()) && bundle.contains(&new));
    assert_eq!(is_trusted(&trial, "ledger-redis-tls", "ledger-redis"), Ok(()));
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_not_overwritten() {
    let trial = Trial::new();
    trial.change_spec(|spec| spec["tls"] = json!({"enabled": true}));
    put(&trial, &certificate("accounts", "ledger-redis-tls", &["redis.example"]));
    assert!(trial.reconcile().await.is_err());
    let ready = trial.condition("Ready");
    assert_eq!(ready["reason"], "NameTaken");
    assert!(ready["message"].as_str().unwrap().contains("Secret ledger-redis-tls"), "{ready}");
    assert_eq!(
        inspect::first(&value(&secret(&trial, "ledger-redis-tls"), "tls.crt")).unwrap().names,
        ["redis.example"]
    );
}

#[tokio::test]
async fn a_secret_of_others_that_cannot_be_used_is_named_with_its_key() {
    const HOST: &str = "ledger-redis.accounts.svc";
    let good = || certificate("accounts", "own", &[HOST]);
    let other = certificate("accounts", "own", &[HOST]);
    let days = |days: i64| ending_in("accounts", "own", &[HOST], SignedDuration::from_hours(24 * days));
    for (secret, reason, words) in [
        (None, "SecretMissing", vec!["spec.tls.secrets.redis", "Secret own", "tls.crt"]),
        (Some(with(good(), "tls.key", None)), "SecretMissing", vec!["Secret own", "key tls.key"]),
        (Some(with(good(), "ca.crt", None)), "SecretMissing", vec!["Secret own", "key ca.crt"]),
        (Some(with(good(), "tls.crt", Some(b"x"))), "SecretInvalid", vec!["key tls.crt of Secret own", "PEM"]),
        (
            Some(with(good(), "tls.key", Some(&value(&other, "tls.key")))),
            "SecretInvalid",
            vec!["key tls.key of Secret own", "not the private key"],
        ),
        (
            Some(with(good(), "ca.crt", Some(&value(&other, "ca.crt")))),
            "SecretInvalid",
            vec!["key ca.crt of Secret own", "tls.crt"],
        ),
        (
            Some(certificate("accounts", "own", &["redis.example"])),
            "SecretInvalid",
            vec!["key tls.crt of Secret own", HOST, "redis.example"],
        ),
        (Some(days(-1)), "CertificateExpired", vec!["key tls.crt of Secret own", "ended at"]),
    ] {
        let trial = Trial::new();
        trial.change_spec(|spec| spec["tls"] = json!({"enabled": true, "secrets": {"redis": "own"}}));
        if let Some(secret) = &secret {
            put(&trial, secret);
        }
        assert!(trial.reconcile().await.is_err(), "{words:?}");
        let ready = trial.condition("Ready");
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!(reason)), "{ready}");
        let message = ready["message"].as_str().unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert!(trial.api.get(&format!("{}/ledger-redis", support::trial::SETS)).is_none(), "no pod gets it");
    }
}

#[tokio::test]
async fn a_certificate_of_others_that_ends_soon_is_reported_while_all_is_ready() {
    let trial = Trial::new();
    trial.change_spec(|spec| spec["tls"] = json!({"enabled": true, "secrets": {"redis": "own"}}));
    let days =
        |days: i64| ending_in("accounts", "own", &["ledger-redis.accounts.svc"], SignedDuration::from_hours(24 * days));
    put(&trial, &days(6));
    trial.reconcile().await.unwrap();
    for (component, size) in [("redis", "3Gi"), ("postgres", "20Gi")] {
        trial.make_pvc(component, size);
    }
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    trial.reconcile().await.unwrap();
    let ready = trial.condition("Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("CertificateExpiring")), "{ready}");
    assert!(ready["message"].as_str().unwrap().contains("key tls.crt of Secret own"), "{ready}");
    let listed = status(&trial)["certificates"].clone();
    assert!(listed.as_array().unwrap().iter().any(|one| one["component"] == "redis" && one["secretName"] == "own"));
    put(&trial, &days(60));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["reason"], "AllReady");
    let sets =
        trial.api.writes().into_iter().filter(|write| write.starts_with("APPLY statefulsets/ledger-redis")).count();
    assert_eq!(sets, 1, "it was created, and the renewed certificate has replaced no pod");
}

/// An external server.
fn external(tls: bool, external: Value) -> Trial {
    let trial = Trial::new();
    trial.change_spec(|spec| {
        spec["tls"] = json!({"enabled": tls});
        for (server, settings) in external.as_object().unwrap() {
            spec[server] = json!({"external": settings});
        }
    });
    trial
}

#[tokio::test]
async fn an_external_server_needs_a_url_that_asks_for_tls_where_tls_is_asked_for() {
    let redis = |tls| external(tls, json!({"redis": {"secretRef": {"name": "url"}}}));
    let with_ca = || external(false, json!({"redis": {"secretRef": {"name": "url"}, "caSecret": {"name": "ca"}}}));
    let postgres = |tls| external(tls, json!({"postgres": {"secretRef": {"name": "url"}}}));
    let plain = "redis://:pw@cache:6379/0";
    for (trial, url, refused) in [
        (redis(false), plain, None),
        (redis(false), "rediss://:pw@cache:6379/0", None),
        (redis(true), plain, Some(["rediss://", "spec.tls.enabled"])),
        (with_ca(), plain, Some(["rediss://", "spec.redis.external.caSecret"])),
        (with_ca(), "rediss://cache", None),
        (postgres(true), "postgres://a:b@db/x", Some(["sslmode=verify-full", "spec.tls.enabled"])),
        (postgres(true), "postgres://a:b@db/x?sslmode=disable", Some(["sslmode=verify-full", "spec.tls.enabled"])),
        (postgres(true), "postgres://a:b@db/x?sslmode=verify-full", None),
        (postgres(false), "postgres://a:b@db/x?sslmode=verify-full", None),
    ] {
        put(&trial, &support::secret("accounts", "url", "url", url));
        put(&trial, &certificate("accounts", "ca", &["ca.example"]));
        let result = trial.reconcile().await;
        let ready = trial.condition("Ready");
        match refused {
            None => assert!(result.is_ok(), "{url}: {ready}"),
            Some(words) => {
                assert_eq!(ready["reason"], "SecretInvalid", "{url}");
                let message = ready["message"].as_str().unwrap();
                assert!(words.iter().all(|word| message.contains(word)) && !message.contains("pw"), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn secrets_for_an_external_server_are_named_when_they_cannot_be_used() {
    for (secret, reason, words) in [
        (None, "SecretMissing", "spec.redis.external.caSecret: there is no Secret ca with the key ca.crt"),
        (
            Some(with(certificate("accounts", "ca", &["x"]), "ca.crt", Some(b"x"))),
            "SecretInvalid",
            "the key ca.crt of Secret ca",
        ),
    ] {
        let trial = external(false, json!({"redis": {"secretRef": {"name": "url"}, "caSecret": {"name": "ca"}}}));
        put(&trial, &support::secret("accounts", "url", "url", "rediss://cache"));
        if let Some(secret) = &secret {
            put(&trial, secret);
        }
        assert!(trial.reconcile().await.is_err());
        let ready = trial.condition("Ready");
        assert_eq!(ready["reason"], reason);
        assert!(ready["message"].as_str().unwrap().contains(words), "{ready}");
    }
}
