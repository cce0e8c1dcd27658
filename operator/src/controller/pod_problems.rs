//! Finds out why pods do not start or do not end, from their status.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use kube::ResourceExt;

use super::build::names::{Component, component_of};
use super::reason::{ConditionReason, Reason};
use crate::crd::ConditionType;

/// Why a pod does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The reason for the condition of the component.
    pub reason: ConditionReason,
    /// Pod, container and cause. It stays the same while the cause stays the same, so that the status is
    /// not written again.
    pub message: String,
}

/// How much of a container's termination message is repeated, in characters.
const MAX_MESSAGE: usize = 300;

/// For how long the kubelet may still be about to remove a pod after its grace period.
const REMOVAL: SignedDuration = SignedDuration::from_secs(60);

/// Returns the first problem among the pods of a component, by the name of the pod.
pub fn of(pods: &[Pod], component: Component, now: Timestamp) -> Option<Problem> {
    let mut pods: Vec<_> = pods.iter().filter(|pod| component_of(pod.labels()) == Some(component.as_str())).collect();
    pods.sort_by_key(|pod| pod.name_any());
    pods.into_iter().find_map(|pod| match &pod.metadata.deletion_timestamp {
        Some(deleted) => of_lost_pod(pod, now.duration_since(deleted.0)),
        None => of_pod(pod),
    })
}

/// Returns the problem of a pod that is being deleted and whose node does not answer. The pod of a StatefulSet is not
/// created on another node before: the old one might still be running. `overdue` is the time since the end of its
/// grace period, by which the kubelet ends it.
fn of_lost_pod(pod: &Pod, overdue: SignedDuration) -> Option<Problem> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    let status = pod.status.as_ref()?;
    let is = |kind: &str, status: &str| {
        let same = move |condition: &&PodCondition| condition.type_ == kind && condition.status == status;
        pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).find(same)
    };
    let evicted = is("DisruptionTarget", "True")
        .is_some_and(|condition| condition.reason.as_deref() == Some("DeletionByTaintManager"));
    // The control plane sets Ready, which pods have as resources do, to False when a node does not answer. The kubelet would have reported the end of
    // the container too.
    let runs = status
        .container_statuses
        .iter()
        .flatten()
        .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    let unheard = is(ConditionType::Ready.as_str(), "False").is_some() && runs;
    let lost = status.reason.as_deref() == Some(Reason::NodeLost.as_str()) || evicted || unheard;
    (lost && overdue > REMOVAL).then(|| Problem {
        reason: Reason::NodeLost.into(),
        message: format!(
            "{name} cannot end, because its node {node} does not answer: start the node again, or if it is switched \
             off for good, run `kubectl taint nodes {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`",
            name = pod.name_any()
        ),
    })
}

fn of_pod(pod: &Pod) -> Option<Problem> {
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    let unschedulable = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.status == "False" && condition.reason.is_some()
    });
    if let Some(condition) = unschedulable {
        let reason = ConditionReason::of_pod(condition.reason.as_deref().unwrap_or_default());
        // The message of the scheduler counts nodes and changes with their number.
        return Some(Problem { reason, message: format!("{name} cannot be scheduled on any node: see its events") });
    }
    status.container_statuses.iter().flatten().find_map(|container| of_container(&name, container))
}

fn of_container(pod: &str, container: &ContainerStatus) -> Option<Problem> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let word = match waiting.reason.as_deref()? {
        "ContainerCreating" | "PodInitializing" => return None,
        // The kubelet alternates between the two while it tries again.
        "ErrImagePull" => Reason::ImagePullBackOff.as_str(),
        other => other,
    };
    let reason = ConditionReason::of_pod(word);
    let cause = match reason {
        ConditionReason::Ours(Reason::ImagePullBackOff) => format!("the image {} cannot be pulled", container.image),
        ConditionReason::Ours(Reason::InvalidImageName) => format!("{} is not a valid image name", container.image),
        ConditionReason::Ours(Reason::CrashLoopBackOff) => termination(container),
        _ => waiting.message.clone().unwrap_or_default(),
    };
    Some(Problem { reason, message: format!("{pod}: container {}: {cause}", container.name) })
}

/// Describes how a container terminated the last time.
fn termination(container: &ContainerStatus) -> String {
    let terminated = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let Some(terminated) = terminated else { return "it terminates repeatedly".to_owned() };
    let message = terminated.message.as_deref().unwrap_or("").trim();
    let line = message.lines().next_back().unwrap_or("").trim();
    let line: String = line.chars().take(MAX_MESSAGE).collect();
    match (terminated.reason.as_deref(), line.is_empty()) {
        (Some("OOMKilled"), _) => "it was killed because it used more memory than its limit".to_owned(),
        (_, true) => format!("it terminates with exit code {}", terminated.exit_code),
        (_, false) => format!("it terminates with exit code {}: {line}", terminated.exit_code),
    }
}
