//! The settings by which the programs send spans. The files of their TLS are in `tls.rs`. Without `spec.tracing` there are
//! none, so that the pods of a resource that does not have it stay as they are.

use k8s_openapi::api::core::v1::EnvVar;

use super::config::TRACING_CHECKSUM;
use super::pod;
use crate::contract::env;
use crate::controller::plan::Plan;

/// Returns the variables of a program.
pub(super) fn variables(plan: &Plan) -> Vec<EnvVar> {
    let Some(tracing) = &plan.tracing else { return Vec::new() };
    // The kubelet replaces a reference by the value of a variable before it.
    let pod = format!("$({})", env::RESOURCE_POD_NAME);
    let attributes = [
        ("k8s.namespace.name", plan.names.namespace.as_str()),
        ("k8s.pod.name", &pod),
        ("service.instance.id", &pod),
        ("sluice.resource", &plan.names.name),
    ];
    let attributes: Vec<_> = attributes.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut variables = vec![
        pod::env(env::OTLP_ENDPOINT, &tracing.endpoint),
        pod::env(env::OTLP_PROTOCOL, tracing.protocol.as_str()),
        pod::env(env::TRACE_RATIO, &tracing.ratio),
        pod::env(env::TRACE_LIMIT, tracing.traces_per_second.to_string()),
        pod::env_pod_name(env::RESOURCE_POD_NAME),
        pod::env(env::RESOURCE_ATTRIBUTES, attributes.join(",")),
    ];
    let headers = tracing.headers.as_ref();
    variables.extend(headers.map(|headers| pod::env_secret(env::OTLP_HEADERS, &headers.secret, &headers.key)));
    variables
}

/// Returns the annotation that makes Kubernetes replace the pods when the headers change.
pub(super) fn checksum(plan: &Plan) -> Option<(String, String)> {
    let headers = plan.tracing.as_ref()?.headers.as_ref()?;
    Some((TRACING_CHECKSUM.to_owned(), headers.checksum.clone()))
}
