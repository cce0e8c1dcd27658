//! Traces of requests, which the programs send to a collector.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::add_rules::{add, at_root};
use super::tls::{CaSecret, CertSecret};

/// Where publishers and aggregators send the spans of traced requests, and how many they trace. A change replaces their
/// pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules)]
#[serde(rename_all = "camelCase")]
pub struct TracingSpec {
    /// URL of a collector that receives OTLP, such as `http://collector.observability.svc:4318`. With `http/protobuf` the
    /// path `/v1/traces` is appended. With `tls.enabled` it must begin with `https`, unless its host is `localhost`.
    #[schemars(length(min = 8, max = 1024))]
    pub endpoint: String,
    /// The protocol of the endpoint. The usual port of `http/protobuf` is 4318, that of `grpc` 4317.
    #[serde(default)]
    pub protocol: OtlpProtocol,
    /// Share of the requests without a `traceparent` that are traced: a decimal from 0 to 1, in quotes. A request with a
    /// `traceparent` is traced if its client says so.
    #[schemars(length(min = 1, max = 12), regex(pattern = r"^[01](\.[0-9]+)?$"))]
    #[serde(default = "one_percent")]
    pub ratio: String,
    /// Maximum number of traces that begin in a second in each pod, also of those that a `traceparent` asks for.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default = "one_hundred")]
    pub traces_per_second: i32,
    /// The Secret with the headers of each request to the endpoint, such as its token. When its content changes, the pods
    /// are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_secret: Option<HeadersSecret>,
    /// The Secret with the CAs that are trusted for the endpoint, which an `https` one needs: the images have none. A
    /// changed Secret replaces no pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<CaSecret>,
    /// The Secret with the certificate of the pods, if the endpoint demands one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret: Option<CertSecret>,
    /// Address ranges of the endpoint, to which NetworkPolicies allow connections. If empty, they allow connections to its
    /// port at all addresses.
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// Port to which NetworkPolicies allow connections, if it is not that of the URL: for a Service with a
    /// `targetPort`, the port of its pods.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy_port: Option<i32>,
}

/// A protocol of OTLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtlpProtocol {
    /// Protobuf in requests of HTTP.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
}

impl OtlpProtocol {
    /// The protocol as it is written in the setting of the programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpProtobuf => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }
}

/// A value in a Secret of the same namespace: headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeadersSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret whose value is a list `NAME=VALUE,NAME=VALUE`. What a value must not contain, such as a
    /// comma, is written as in a URL: `%2C`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default = "headers")]
    pub key: String,
}

fn one_percent() -> String {
    "0.01".to_owned()
}

fn one_hundred() -> i32 {
    100
}

fn headers() -> String {
    "headers".to_owned()
}

/// Adds the rules of what is sent where. The characters of the URL are those that neither the kubelet nor a client of HTTP
/// takes for something else: `$(NAME)` would be replaced by a variable.
fn rules(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                r"self.endpoint.matches('^https?://([-A-Za-z0-9._]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?(/[-A-Za-z0-9._~/%]*)?$')",
                "tracing.endpoint must be a URL of the form http://HOST:PORT or https://HOST:PORT, without a user and a query",
                ".endpoint",
            ),
            (
                "!has(self.protocol) || self.protocol != 'grpc' || self.endpoint.matches('^[a-z]+://[^/]*/?$')",
                "tracing.endpoint must have no path with tracing.protocol grpc",
                ".endpoint",
            ),
            (
                "!self.endpoint.matches('/v1/traces/?$')",
                "tracing.endpoint must not end with /v1/traces: the programs append it",
                ".endpoint",
            ),
            (
                "!has(self.ratio) || self.ratio.matches('^(0([.][0-9]+)?|1([.]0+)?)$')",
                "tracing.ratio must be a decimal from 0 to 1 in quotes, such as \"0.01\"",
                ".ratio",
            ),
            (
                "!self.endpoint.startsWith('https://') || has(self.caSecret)",
                "tracing.caSecret is missing: an endpoint with https needs it, because the images trust no CAs",
                ".caSecret",
            ),
            (
                "self.endpoint.startsWith('https://') || !has(self.caSecret) && !has(self.certSecret)",
                "tracing.caSecret and tracing.certSecret have no use unless tracing.endpoint begins with https://",
                ".endpoint",
            ),
        ],
    );
}

/// Returns the rule about traces and TLS. The programs open a connection without TLS to a container of the same pod, such as
/// a collector that is injected there, and to no other host.
pub(super) fn root() -> Vec<ValidationRule> {
    at_root(&[(
        "!has(self.spec.tracing) || !has(self.spec.tls) || !has(self.spec.tls.enabled) || !self.spec.tls.enabled || \
         self.spec.tracing.endpoint.matches('^(https://|http://(localhost|127[.][0-9.]+|\\\\[::1\\\\])([:/]|$))')",
        "spec.tracing.endpoint must begin with https://, because spec.tls.enabled is true",
        ".spec.tracing.endpoint",
    )])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::OtlpProtocol;
    use crate::crd::schema::server::{object, refusals, schema};

    fn refused(tracing: Value) -> Vec<String> {
        refusals(&object("shop", json!({ "tracing": tracing })), None)
    }

    fn accepted(tracing: Value) {
        assert_eq!(refused(tracing.clone()), Vec::<String>::new(), "{tracing}");
    }

    #[test]
    fn an_endpoint_is_a_url_without_what_would_be_dropped_or_replaced() {
        for endpoint in [
            "http://collector:4318",
            "http://collector.observability.svc:4318/",
            "http://10.0.0.7",
            "http://[fd00::7]:4318",
            "http://collector/otlp",
        ] {
            accepted(json!({ "endpoint": endpoint }));
        }
        for endpoint in [
            "collector:4318",
            "grpc://collector:4317",
            "http://",
            "http://user:pw@collector",
            "http://collector?x=y",
            "http://collector#x",
            "http://a,b",
            "http://$(HOST_IP):4318",
            "http://collector/a b",
            " http://collector",
            "HTTP://collector",
        ] {
            let refused = refused(json!({ "endpoint": endpoint }));
            assert!(refused.iter().any(|message| message.contains("tracing.endpoint")), "{endpoint}: {refused:?}");
        }
    }

    #[test]
    fn a_path_that_cannot_work_is_refused() {
        for path in ["/v1/traces", "/v1/traces/", "/otlp/v1/traces"] {
            let refused = refused(json!({ "endpoint": format!("http://collector:4318{path}") }));
            assert!(refused.iter().any(|message| message.contains("/v1/traces")), "{path}: {refused:?}");
        }
        accepted(json!({"endpoint": "http://collector:4317/", "protocol": "grpc"}));
        let refused = refused(json!({"endpoint": "http://collector:4317/otlp", "protocol": "grpc"}));
        assert!(refused[0].contains("no path with tracing.protocol grpc"), "{refused:?}");
    }

    #[test]
    fn a_ratio_is_a_decimal_from_0_to_1() {
        let with = |ratio: &str| json!({"endpoint": "http://collector", "ratio": ratio});
        for ratio in ["0", "1", "0.0", "1.000", "0.01", "0.000001"] {
            accepted(with(ratio));
        }
        for ratio in ["", "2", "1.1", "-0.1", ".5", "0.", "1%", "0,5", "1e-3", "NaN", "00.1"] {
            let refused = refused(with(ratio));
            assert!(refused.iter().any(|message| message.contains("tracing.ratio")), "{ratio}: {refused:?}");
        }
    }

    #[test]
    fn https_needs_cas_and_nothing_else_has_a_use_for_them() {
        let (ca, cert) = (json!({"name": "ca"}), json!({"name": "client"}));
        assert!(refused(json!({"endpoint": "https://collector"}))[0].contains("tracing.caSecret is missing"));
        accepted(json!({"endpoint": "https://collector", "caSecret": ca, "certSecret": cert}));
        for files in [json!({"caSecret": ca}), json!({"certSecret": cert})] {
            let mut tracing = files;
            tracing["endpoint"] = json!("http://collector");
            assert!(refused(tracing)[0].contains("tracing.endpoint begins with https://"));
        }
    }

    #[test]
    fn with_tls_spans_are_sent_over_tls() {
        let with = |tls: bool, endpoint: &str, files: Value| {
            let mut tracing = files;
            tracing["endpoint"] = json!(endpoint);
            refusals(&object("shop", json!({"tls": {"enabled": tls}, "tracing": tracing})), None)
        };
        assert!(with(true, "http://collector", json!({}))[0].contains("spec.tracing.endpoint must begin with https"));
        assert_eq!(with(false, "http://collector", json!({})), Vec::<String>::new());
        assert_eq!(with(true, "https://collector", json!({"caSecret": {"name": "ca"}})), Vec::<String>::new());
        for local in ["http://localhost:4318", "http://127.0.0.1", "http://[::1]:4318/"] {
            assert_eq!(with(true, local, json!({})), Vec::<String>::new(), "{local}");
        }
        for other in ["http://localhost.example", "http://1270.0.0.1", "http://127.example:80"] {
            assert_eq!(with(true, other, json!({})).len(), 1, "{other}");
        }
    }

    #[test]
    fn variables_of_the_field_are_refused_among_those_of_pods() {
        let pods = |name: &str| json!({"aggregator": {"pods": {"env": [{"name": name, "value": "x"}]}}});
        for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER_ARG"] {
            let refused = refusals(&object("shop", pods(name)), None);
            assert!(refused[0].contains("pods.env"), "{name}: {refused:?}");
        }
        for name in ["OTEL_SERVICE_NAME", "OTEL_BSP_SCHEDULE_DELAY"] {
            assert_eq!(refusals(&object("shop", pods(name)), None), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn what_is_left_out_has_the_defaults_of_the_programs() {
        let object = object("shop", json!({"tracing": {"endpoint": "http://collector"}}));
        let expected = json!({
            "endpoint": "http://collector", "protocol": "http/protobuf", "ratio": "0.01", "tracesPerSecond": 100
        });
        assert_eq!(object["spec"]["tracing"], expected);
        let names = &schema()["properties"]["spec"]["properties"]["tracing"]["properties"]["protocol"]["enum"];
        let all = [OtlpProtocol::HttpProtobuf, OtlpProtocol::Grpc];
        assert_eq!(*names, json!(all.map(OtlpProtocol::as_str)));
        assert_eq!(serde_json::to_value(all).unwrap(), *names);
    }
}
