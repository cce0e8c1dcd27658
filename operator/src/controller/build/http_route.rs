//! The HTTPRoute of the publishers. Its type has the fields that the operator sets, of version v1 of the Gateway API
//! (<https://gateway-api.sigs.k8s.io/reference/spec/#httproute>).

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::meta;
use super::names::Component;
use crate::contract::PUBLISHER_PORT;
use crate::controller::plan::Plan;
use crate::crd::GatewayRef;

const COMPONENT: Component = Component::Publisher;

/// The spec of an HTTPRoute.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    plural = "httproutes",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteFields {
    /// The Gateways that serve the route.
    #[serde(default)]
    pub parent_refs: Vec<GatewayRef>,
    /// Names of the hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Where requests are sent.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Where requests are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The Services that receive the requests.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
}

/// A Service that receives requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendRef {
    /// Name of the Service.
    pub name: String,
    /// Its port.
    pub port: Option<i32>,
}

/// Returns the route, if the plan has one.
pub(super) fn build(plan: &Plan) -> Option<HttpRoute> {
    let wanted = plan.publisher.http_route.as_ref()?;
    let backend = BackendRef { name: plan.names.of(COMPONENT), port: Some(PUBLISHER_PORT) };
    let spec = HttpRouteFields {
        parent_refs: wanted.parent_refs.clone(),
        hostnames: wanted.hostnames.clone(),
        rules: vec![Rule { backend_refs: vec![backend] }],
    };
    let mut metadata = meta::meta(plan, plan.names.of(COMPONENT), COMPONENT);
    if !wanted.annotations.is_empty() {
        metadata.annotations = Some(wanted.annotations.clone());
    }
    Some(HttpRoute { metadata, spec })
}
