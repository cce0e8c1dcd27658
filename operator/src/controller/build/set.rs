//! StatefulSets and Services, which several components have in the same form.

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PodTemplateSpec, Service, ServicePort, ServiceSpec,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta::{meta, selector};
use super::names::Component;
use crate::controller::plan::{Plan, VolumePlan};

/// Number of earlier pod templates that Kubernetes retains.
pub(super) const HISTORY: i32 = 3;

/// Returns the StatefulSet of a component. Its pods are managed in parallel: with ordered management
/// Kubernetes never replaces a pod whose image cannot be pulled.
pub(super) fn stateful_set(
    plan: &Plan,
    component: Component,
    replicas: i32,
    service: String,
    template: PodTemplateSpec,
) -> StatefulSet {
    StatefulSet {
        metadata: meta(plan, plan.names.of(component), component),
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            service_name: Some(service),
            selector: selector(plan, component),
            pod_management_policy: Some("Parallel".to_owned()),
            revision_history_limit: Some(HISTORY),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            template,
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Adds a volume `data` for each pod. The StatefulSet does not delete its volumes, because it can be deleted
/// alone. With `deletionPolicy: Delete` the resource owns them, see `retention`.
pub(super) fn with_volume(plan: &Plan, component: Component, volume: &VolumePlan, mut set: StatefulSet) -> StatefulSet {
    let Some(spec) = &mut set.spec else { return set };
    spec.persistent_volume_claim_retention_policy = Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some("Retain".to_owned()),
        when_scaled: Some("Retain".to_owned()),
    });
    let requests = [("storage".to_owned(), volume.size.clone())].into();
    spec.volume_claim_templates = Some(vec![PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            labels: Some(plan.names.labels(component)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: volume.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(requests),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }]);
    set
}

/// Returns the Service of a component.
pub(super) fn service(plan: &Plan, component: Component, port_name: &str, port: i32) -> Service {
    Service {
        metadata: meta(plan, plan.names.of(component), component),
        spec: Some(ServiceSpec {
            selector: Some(plan.names.selector(component)),
            ports: Some(vec![ServicePort {
                name: Some(port_name.to_owned()),
                port,
                target_port: Some(IntOrString::String(port_name.to_owned())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
