//! Helpers that the tests of the operator share.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod clusters;
pub mod fake;
mod patches;
pub mod tls;
pub mod trial;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use sluice_operator::controller::build::names::Component;
use sluice_operator::controller::build::{Objects, build};
use sluice_operator::controller::fetch::Live;
use sluice_operator::controller::plan::{Checksums, Defaults, Plan};
use sluice_operator::controller::validate::validate;
use sluice_operator::crd::EventAggregator;

/// Returns the settings of an operator in the namespace `tools`.
pub fn defaults() -> Defaults {
    Defaults {
        image_aggregator: "sluice-aggregator:test".into(),
        image_publisher: "sluice-publisher:test".into(),
        image_redis: "redis:test".into(),
        image_postgres: "postgres:{version}-test".into(),
        operator_namespace: Some("tools".into()),
        fixed_user_ids: true,
        secret_selector: None,
        runbooks: "https://runbooks.example/sluice".into(),
    }
}

/// Returns the text of a fixture.
pub fn fixture_text(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default()
}

/// Returns a resource from a fixture.
pub fn fixture(name: &str) -> EventAggregator {
    serde_yaml::from_str(&fixture_text(name)).unwrap()
}

/// Returns a Secret with one value.
pub fn secret(namespace: &str, name: &str, key: &str, value: &str) -> Secret {
    let mut secret = Secret { data: Some(BTreeMap::new()), ..Secret::default() };
    secret.metadata.name = Some(name.into());
    secret.metadata.namespace = Some(namespace.into());
    secret.metadata.resource_version = Some("1".into());
    secret.data.as_mut().unwrap().insert(key.into(), ByteString(value.as_bytes().to_vec()));
    secret
}

/// Returns the Secret of the bucket to which `vault.yaml` refers.
pub fn credentials(namespace: &str) -> Secret {
    let mut secret = secret(namespace, "backup-s3", "AWS_ACCESS_KEY_ID", "key");
    let data = secret.data.as_mut().unwrap();
    data.insert("AWS_SECRET_ACCESS_KEY".into(), ByteString(b"secret".to_vec()));
    data.insert("ca.crt".into(), ByteString(b"-----BEGIN CERTIFICATE-----".to_vec()));
    secret
}

/// Returns the Secrets to which `tiny.yaml`, `remote.yaml` and `vault.yaml` refer.
pub fn external_secrets() -> Live {
    let secrets = [
        secret("edge", "cache", "url", "redis://:pw@cache.example:6380/0"),
        secret("edge", "database", "uri", "postgres://app:pw@db.example/events"),
        secret("edge", "sealed-cache", "url", "rediss://:pw@cache.example:6380/0"),
        secret("edge", "sealed-database", "url", "postgres://app:pw@db.example/events?sslmode=verify-full"),
        tls::certificate("edge", "client", &["remote.edge.svc"]),
        tls::certificate("edge", "authority", &["ca.example"]),
        tls::certificate("edge", "front", &["events.example"]),
        credentials("edge"),
        secret("edge", "traces", "headers", "authorization=Bearer%20secret"),
    ];
    Live { secrets: secrets.into_iter().map(|s| (s.metadata.name.clone().unwrap(), s)).collect(), ..Live::default() }
}

/// Returns the plan of a fixture on an empty namespace.
pub fn plan(name: &str) -> Plan {
    validate(&fixture(name), &external_secrets(), &defaults(), None).unwrap()
}

/// Returns the objects of a fixture.
pub fn objects(name: &str) -> Objects {
    let checksums =
        Checksums::from([(Component::Redis, "hash-of-redis".into()), (Component::Postgres, "hash-of-postgres".into())]);
    build(&plan(name), &checksums)
}
