//! Who may reach whom, beyond what the parts need of each other.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// NetworkPolicies: everything is denied but what the parts need of each other, name resolution,
/// and what is opened here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// Without policies everybody in the cluster reaches everything.
    pub enabled: bool,
    /// Where names are resolved.
    pub dns: DnsPeer,
    /// Who may publish and query; without any, everybody.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<Peer>,
    /// Who may read the metrics of aggregators (a publisher's are open to its clients).
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrapers: Vec<Peer>,
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self { enabled: true, dns: DnsPeer::default(), clients: Vec::new(), scrapers: Vec::new() }
    }
}

/// Where names are resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DnsPeer {
    /// Labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Labels of the pods in it; none means all of them.
    pub pod_labels: BTreeMap<String, String>,
    /// Further addresses, such as `169.254.20.10/32` of a node-local cache.
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

/// Pods, by labels of theirs and of their namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    /// Labels of the namespace; none means this resource's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, String>,
    /// Labels of the pods; none means all of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
}
