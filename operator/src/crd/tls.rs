//! TLS between the pods and with clients.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// TLS on every connection: clients to publishers, publishers to aggregators, and both to Redis and PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsSpec {
    /// Whether all connections speak TLS and nothing else. Metrics and probes are then at a port of their own, 9090. A
    /// change restarts all pods.
    pub enabled: bool,
    /// Further names or IPv4 addresses at which clients reach the publishers, such as that of an Ingress.
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 253), regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publisher_names: Vec<String>,
    /// Secrets with certificates of others, such as those of cert-manager. The operator issues the others itself.
    pub secrets: TlsSecrets,
}

/// Names of Secrets with the keys `tls.crt`, `tls.key` and `ca.crt`. For a component that has none, the operator issues
/// and renews a certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsSecrets {
    /// Certificate of the publishers, for `publisherNames` or, if there are none, for `NAME-publisher.NAMESPACE.svc`.
    /// It needs no `ca.crt`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Certificate of the aggregators, for `NAME-aggregator.NAMESPACE.svc`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregator: Option<String>,
    /// Certificate that publishers and the operator show to aggregators, which accept those that a CA in its `ca.crt` has
    /// signed.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Certificate of a managed Redis, for `NAME-redis.NAMESPACE.svc`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<String>,
    /// Certificate of a managed PostgreSQL, for `NAME-postgres.NAMESPACE.svc`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<String>,
}

/// A value in a Secret of the same namespace with CAs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret whose value is a list of certificates in PEM.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default = "ca_crt")]
    pub key: String,
}

/// A Secret of the same namespace with a certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertSecret {
    /// Name of the Secret, which has the keys `tls.crt` and `tls.key`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn ca_crt() -> String {
    "ca.crt".to_owned()
}

/// Adds the rules. Names and Secrets without TLS would have no effect, and their user would believe otherwise.
fn rules(schema: &mut Schema) {
    let rules = json!([
        {
            "rule": "!has(self.enabled) || self.enabled || !has(self.publisherNames) || size(self.publisherNames) == 0",
            "message": "tls.publisherNames needs tls.enabled: true",
            "fieldPath": ".publisherNames",
        },
        {
            "rule": "!has(self.enabled) || self.enabled || !has(self.secrets) || !has(self.secrets.publisher) && \
                     !has(self.secrets.aggregator) && !has(self.secrets.client) && !has(self.secrets.redis) && !has(self.secrets.postgres)",
            "message": "tls.secrets needs tls.enabled: true",
            "fieldPath": ".secrets",
        },
    ]);
    schema.insert("x-kubernetes-validations".to_owned(), rules);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::crd::schema::server::{object, refusals, schema};

    fn refused(tls: Value) -> Vec<String> {
        refusals(&object("shop", json!({ "tls": tls })), None)
    }

    #[test]
    fn what_has_no_effect_without_tls_is_refused_by_name() {
        assert!(refused(json!({"publisherNames": ["shop.example"]}))[0].contains("tls.publisherNames"));
        assert!(refused(json!({"secrets": {"redis": "x"}}))[0].contains("tls.secrets"));
        let all = json!({"enabled": true, "publisherNames": ["shop.example", "*.shop.example", "10.0.0.7"],
            "secrets": {"publisher": "a", "aggregator": "b", "redis": "c", "postgres": "d", "client": "e"}});
        assert_eq!(refused(all), Vec::<String>::new());
        assert_eq!(refused(json!({})), Vec::<String>::new());
    }

    /// The API server compares them with a pattern, and what passes it is a name that a certificate can have.
    #[test]
    fn names_of_publishers_have_a_pattern() {
        let tls = &schema()["properties"]["spec"]["properties"]["tls"];
        assert!(tls["properties"]["publisherNames"]["items"]["pattern"].is_string(), "{tls}");
    }
}
