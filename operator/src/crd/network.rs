//! Connections that NetworkPolicies allow, beyond those between the components.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// NetworkPolicies: they deny all connections except those between the components, to the DNS servers,
/// and those that are allowed here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// Whether NetworkPolicies are created. Without them, all pods of the cluster can connect to all components.
    pub enabled: bool,
    /// The DNS servers.
    pub dns: DnsPeer,
    /// Pods that may publish and query. If empty, all may.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<Peer>,
    /// Pods that may read the metrics of aggregators and publishers, such as those of Prometheus.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrapers: Vec<Peer>,
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self { enabled: true, dns: DnsPeer::default(), clients: Vec::new(), scrapers: Vec::new() }
    }
}

/// The DNS servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DnsPeer {
    /// Labels of the namespace of the DNS servers.
    pub namespace_labels: BTreeMap<String, String>,
    /// Labels of the pods in that namespace. If empty, all of them.
    pub pod_labels: BTreeMap<String, String>,
    /// Additional addresses, such as `169.254.20.10/32` of a node-local cache.
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
}

impl Default for DnsPeer {
    fn default() -> Self {
        let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Self {
            namespace_labels: labels("kubernetes.io/metadata.name", "kube-system"),
            pod_labels: labels("k8s-app", "kube-dns"),
            cidrs: Vec::new(),
        }
    }
}

/// Pods, selected by their labels and by the labels of their namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    /// Labels of the namespace. If empty, the namespace of this resource.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, String>,
    /// Labels of the pods. If empty, all pods of the namespace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
}
