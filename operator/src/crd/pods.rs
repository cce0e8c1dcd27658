//! What a team says about the pods of a component: where they run, and what they carry besides their program.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, PodSecurityContext, SecurityContext, Toleration, TopologySpreadConstraint,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// The pods of a component. What is given here is added to what the operator sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::pods)]
#[serde(rename_all = "camelCase", default)]
pub struct PodsSpec {
    /// Additional labels. Keys that begin with `app.kubernetes.io/` or `sluice.dev/` are the operator's.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Additional annotations. Keys that begin with `sluice.dev/` are the operator's.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes on which the pods may run nevertheless.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Rules for the nodes, by their labels and by the pods that run there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the pods are spread over nodes and zones. If empty, over nodes as far as possible.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Name of the PriorityClass.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Annotations of the ServiceAccount, such as the role that a cloud provider gives to its pods.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service_account_annotations: BTreeMap<String, String>,
    /// Additional environment variables of the container. Those that the operator sets are refused by name.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Security settings of the pod. A field that is given replaces that of the operator, whose settings the Pod Security
    /// level `restricted` admits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// Security settings of the container. A field that is given replaces that of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
}

/// The fields whose types are those of a pod in Kubernetes, which `kubectl explain pod.spec` describes.
pub(super) const AS_IN_A_POD: [&str; 6] =
    ["affinity", "env", "podSecurityContext", "securityContext", "tolerations", "topologySpreadConstraints"];
