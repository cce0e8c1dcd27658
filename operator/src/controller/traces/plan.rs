//! Where the programs of a resource send spans, after the checks.

use crate::crd::OtlpProtocol;

/// The endpoint of spans, and how many traces there are.
#[derive(Debug, Clone)]
pub struct TracingPlan {
    /// URL of the endpoint.
    pub endpoint: String,
    /// The protocol that it speaks.
    pub protocol: OtlpProtocol,
    /// Share of the requests without a `traceparent` that are traced, such as `0.01`.
    pub ratio: String,
    /// Maximum number of traces that begin in a second in each pod.
    pub traces_per_second: i32,
    /// The headers of requests to the endpoint.
    pub headers: Option<HeadersPlan>,
    /// The Secret and the key in it with the CAs that are trusted.
    pub ca: Option<(String, String)>,
    /// The Secret with the certificate of the pods.
    pub cert: Option<String>,
    /// The port that NetworkPolicies open.
    pub port: i32,
    /// Address ranges of the endpoint; if empty, NetworkPolicies open its port for all addresses.
    pub cidrs: Vec<String>,
}

/// Headers in a Secret.
#[derive(Debug, Clone)]
pub struct HeadersPlan {
    /// Name of the Secret.
    pub secret: String,
    /// The key in it.
    pub key: String,
    /// A hash of the headers. Pods are replaced when it changes.
    pub checksum: String,
}
