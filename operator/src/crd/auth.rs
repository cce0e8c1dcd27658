//! Who may use the publishers and aggregators.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tls::CaSecret;

/// Who may use the publishers and aggregators: those who have a token. Metrics and probes are then at a port of their own,
/// 9090, which needs none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules)]
#[serde(rename_all = "camelCase")]
pub struct AuthSpec {
    /// The Secret with the tokens that are accepted. A change takes effect within a minute and replaces no pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokensSecret>,
    /// JWTs of an issuer that are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSpec>,
    /// Requests that a client may send to each publisher in a second; if absent, any number.
    #[schemars(range(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<i32>,
    /// Events that a client may publish to each publisher in a second; if absent, any number.
    #[schemars(range(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<i32>,
}

/// A value in a Secret of the same namespace: a list of tokens, as `sluice-publisher token` prints its items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokensSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default = "tokens_yaml")]
    pub key: String,
}

/// The JWTs of an issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = jwt_rules)]
#[serde(rename_all = "camelCase")]
pub struct JwtSpec {
    /// The claim `iss`.
    #[schemars(length(min = 1, max = 1024))]
    pub issuer: String,
    /// The claim `aud`, or one of several there.
    #[schemars(length(min = 1, max = 1024))]
    pub audience: String,
    /// URL of the public keys of the issuer (JWKS), with `https`.
    #[schemars(length(min = 9, max = 2048))]
    pub jwks_url: String,
    /// The Secret with the CAs that are trusted for the URL. The images have none.
    pub ca_secret: CaSecret,
    /// Address ranges of the issuer, to which NetworkPolicies allow connections. If empty, they allow connections to its
    /// port at all addresses.
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// The claim with the scopes; if absent, `scope`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes_claim: Option<String>,
    /// The claim with the patterns of topics; if absent, `topics`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics_claim: Option<String>,
}

fn tokens_yaml() -> String {
    "tokens.yaml".to_owned()
}

/// Adds the rule that somebody must be accepted.
fn rules(schema: &mut Schema) {
    let rules = json!([{
        "rule": "has(self.tokens) || has(self.jwt)",
        "message": "auth needs auth.tokens or auth.jwt: without both nobody would be accepted",
    }]);
    schema.insert("x-kubernetes-validations".to_owned(), rules);
}

/// Adds the rule for the URL.
fn jwt_rules(schema: &mut Schema) {
    let rules = json!([{
        "rule": "!has(self.jwksUrl) || self.jwksUrl.matches('^https://[^/?#@ ]+([/?][^ ]*)?$')",
        "message": "auth.jwt.jwksUrl must be a URL with https and without a user",
        "fieldPath": ".jwksUrl",
    }]);
    schema.insert("x-kubernetes-validations".to_owned(), rules);
}
