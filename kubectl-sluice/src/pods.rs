//! The pods of a resource.

use anyhow::bail;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use sluice_operator::controller::build::names::{Component, Names, component_of, instance_of};

use crate::context::Context;

/// All components, in the order in which events pass them.
pub const COMPONENTS: [Component; 4] =
    [Component::Publisher, Component::Redis, Component::Aggregator, Component::Postgres];

/// Returns all pods of a resource, by name.
///
/// # Errors
/// If they cannot be listed.
pub async fn of_resource(context: &Context, names: &Names) -> anyhow::Result<Vec<Pod>> {
    let labels: Vec<_> = names.selector_of_pods().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let list = ListParams::default().labels(&labels.join(","));
    let api = context.api::<Pod>()?;
    let mut pods = context.answer("cannot list its pods", api.list(&list)).await?.items;
    pods.retain(|pod| instance_of(pod.labels()) == Some(&names.name));
    pods.sort_by_key(ResourceExt::name_any);
    Ok(pods)
}

/// Whether a pod is of this component.
pub fn is_of(pod: &Pod, component: Component) -> bool {
    component_of(pod.labels()) == Some(component.as_str())
}

/// Whether a pod is ready and stays.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the container of the component runs in a pod, so that commands can be run in it.
pub fn is_running(pod: &Pod, component: Component) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut ours = containers.filter(|container| container.name == component.as_str());
    let runs = ours.any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    runs && pod.metadata.deletion_timestamp.is_none()
}

/// Returns the names of the ready pods of a component, of which there is at least one.
///
/// # Errors
/// If there is none; the message says how many there are.
pub fn ready(pods: &[Pod], component: Component) -> anyhow::Result<Vec<String>> {
    let all = pods.iter().filter(|pod| is_of(pod, component));
    let ready: Vec<_> = all.clone().filter(|pod| is_ready(pod)).map(ResourceExt::name_any).collect();
    if ready.is_empty() {
        let component = component.as_str();
        match all.count() {
            0 => bail!("it has no {component} pods (kubectl sluice status says why)"),
            count => bail!("none of its {count} {component} pods is ready (kubectl sluice status says why)"),
        }
    }
    Ok(ready)
}
