//! The Ingress of the publishers.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, ServiceBackendPort,
};

use super::names::Component;
use super::objects::Objects;
use super::{meta, pod};
use crate::controller::plan::Plan;

const COMPONENT: Component = Component::Publisher;

/// Adds the Ingress, if the plan has one. All paths lead to the publishers: they answer queries too.
pub(super) fn build(plan: &Plan, objects: &mut Objects) {
    let Some(wanted) = &plan.publisher.ingress else { return };
    let mut metadata = meta::meta(plan, plan.names.of(COMPONENT), COMPONENT);
    if !wanted.annotations.is_empty() {
        metadata.annotations = Some(wanted.annotations.clone());
    }
    let rule = |host: Option<String>| IngressRule {
        host,
        http: Some(HTTPIngressRuleValue {
            paths: vec![HTTPIngressPath {
                path: Some("/".to_owned()),
                path_type: "Prefix".to_owned(),
                backend: backend(plan),
            }],
        }),
    };
    let rules = if wanted.hosts.is_empty() {
        vec![rule(None)]
    } else {
        wanted.hosts.iter().map(|host| rule(Some(host.clone()))).collect()
    };
    let tls = wanted.tls_secret_name.as_ref().map(|secret| {
        vec![IngressTLS { hosts: pod::some_vec(wanted.hosts.clone()), secret_name: Some(secret.clone()) }]
    });
    objects.ingresses.push(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.clone(),
            rules: Some(rules),
            tls,
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    });
}

fn backend(plan: &Plan) -> IngressBackend {
    IngressBackend {
        service: Some(IngressServiceBackend {
            name: plan.names.of(COMPONENT),
            port: Some(ServiceBackendPort { name: Some("http".to_owned()), ..ServiceBackendPort::default() }),
        }),
        ..IngressBackend::default()
    }
}
