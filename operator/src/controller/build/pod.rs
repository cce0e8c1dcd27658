//! Pod templates that the Pod Security level `restricted` admits, and the elements of their containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, ExecAction, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext, TopologySpreadConstraint, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::additions;
use super::meta::selector;
use super::names::Component;
use crate::contract;
use crate::controller::plan::Plan;
use crate::crd::Resources;

/// User and group of our own programs' images.
pub(super) const OUR_USER: i64 = 65_532;
/// User and group `redis` and `postgres` in the official images.
pub(super) const SERVER_USER: i64 = 999;

/// The input of [`template`].
pub(super) struct Pod {
    pub component: Component,
    pub user: i64,
    pub container: Container,
    pub volumes: Vec<Volume>,
    /// Annotations with hashes. The pods are replaced when one changes.
    pub checksums: BTreeMap<String, String>,
    /// Seconds from SIGTERM to SIGKILL.
    pub grace: i64,
}

/// Returns the template of a component's pods.
pub(super) fn template(plan: &Plan, pod: Pod) -> PodTemplateSpec {
    let Pod { component, user, container, volumes, checksums, grace } = pod;
    let selector = selector(plan, component);
    let user = Some(user).filter(|_| plan.fixed_user_ids);
    let pull_secrets = plan.images.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(plan.names.labels(component)),
            annotations: some_map(checksums),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(plan.names.of(component)),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: user,
                run_as_group: user,
                fs_group: user,
                // Changes the files only when the root directory of the volume does not belong to the
                // group yet. Changing all files at each start takes long, and would give the group
                // access to the data directory, which PostgreSQL refuses.
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            topology_spread_constraints: Some(vec![TopologySpreadConstraint {
                max_skew: 1,
                topology_key: "kubernetes.io/hostname".to_owned(),
                when_unsatisfiable: "ScheduleAnyway".to_owned(),
                label_selector: Some(selector.clone()),
                ..TopologySpreadConstraint::default()
            }]),
            image_pull_secrets: some_vec(pull_secrets.collect()),
            termination_grace_period_seconds: Some(grace),
            containers: vec![container],
            volumes: some_vec(volumes),
            ..PodSpec::default()
        }),
    };
    if let Some(pods) = plan.pods(component) {
        additions::to_template(&mut template, pods, &selector);
    }
    template
}

/// Returns a container without any privileges. Its last log lines become its termination message.
pub(super) fn container(plan: &Plan, component: Component, image: &str) -> Container {
    Container {
        name: component.as_str().to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(plan.images.pull_policy.as_str().to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// Returns a named port.
pub(super) fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort { name: Some(name.to_owned()), container_port: number, ..ContainerPort::default() }
}

/// Returns a variable with a value.
pub(super) fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), ..EnvVar::default() }
}

/// Returns a variable whose value is in a Secret.
pub(super) fn env_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let secret = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: None };
    let source = EnvVarSource { secret_key_ref: Some(secret), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

/// Returns a variable whose value is the name of the pod.
pub(super) fn env_pod_name(name: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: "metadata.name".to_owned(), ..ObjectFieldSelector::default() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

/// Adds the three probes of our own programs.
///
/// - Startup: 60 times 1 s. The programs answer `/healthz` as soon as they listen, before they connect to
///   Redis or PostgreSQL. Only the start of the process on a busy node takes time.
/// - Liveness: 6 times 10 s. `/healthz` depends on no other server. A restart helps only against a process
///   that hangs, so a minute of high load must not trigger it.
/// - Readiness: 2 times 3 s. A pod that cannot work leaves the Service after about 6 s, and a single lost
///   response does not remove it.
pub(super) fn http_probes(container: &mut Container, port: &str) {
    let get = |path: &str, period: i32, timeout: i32, failures: i32| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(port.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    container.startup_probe = Some(get(contract::LIVE_PATH, 1, 5, 60));
    container.liveness_probe = Some(get(contract::LIVE_PATH, 10, 10, 6));
    container.readiness_probe = Some(get(contract::READY_PATH, 3, 5, 2));
}

/// Returns a probe that runs a line of shell.
pub(super) fn shell_probe(line: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        exec: Some(ExecAction { command: Some(shell(line)) }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Returns a line of shell as a command.
pub(super) fn shell(line: &str) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()]
}

/// Returns an empty volume that is deleted with the pod.
pub(super) fn scratch(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// Returns an empty volume in memory.
pub(super) fn memory_volume(name: &str, bytes: i64) -> Volume {
    let source = EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: Some(quantity(bytes)) };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

/// Returns the mount of a volume at a path.
pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// Returns a number of bytes as a quantity.
pub(super) fn quantity(bytes: i64) -> Quantity {
    Quantity(bytes.to_string())
}

/// Returns the resources of the spec, with a small request for CPU and memory where the spec gives neither
/// a request nor a limit.
pub(super) fn resources(asked: &Resources, cpu: &str, memory: &str) -> ResourceRequirements {
    let mut requests = asked.requests.clone();
    for (name, small) in [("cpu", cpu), ("memory", memory)] {
        if !requests.contains_key(name) && !asked.limits.contains_key(name) {
            requests.insert(name.to_owned(), Quantity(small.to_owned()));
        }
    }
    ResourceRequirements {
        requests: some_map(requests),
        limits: some_map(asked.limits.clone()),
        ..ResourceRequirements::default()
    }
}

/// Returns the resources of a managed server. The memory request equals the limit, because the server is
/// configured to use all of its memory.
pub(super) fn server_resources(cpu: &Quantity, memory: i64) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(BTreeMap::from([("cpu".to_owned(), cpu.clone()), ("memory".to_owned(), quantity(memory))])),
        limits: Some(BTreeMap::from([("memory".to_owned(), quantity(memory))])),
        ..ResourceRequirements::default()
    }
}

pub(super) fn some_vec<T>(items: Vec<T>) -> Option<Vec<T>> {
    Some(items).filter(|items| !items.is_empty())
}

fn some_map<V>(items: BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    Some(items).filter(|items| !items.is_empty())
}
