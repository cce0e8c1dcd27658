//! What pods say when they do not start.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use super::build::names::{Component, component_of};

/// Why a pod does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// One of a few words.
    pub reason: String,
    /// Pod, container and cause. Stays the same while the cause does.
    pub message: String,
}

/// How much of a container's last words is repeated.
const WORDS: usize = 300;

/// The first problem among the pods of a part.
pub fn of(pods: &[Pod], component: Component) -> Option<Problem> {
    let ours = |pod: &&Pod| component_of(pod.labels()) == Some(component.as_str());
    let mut pods: Vec<_> = pods.iter().filter(ours).filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    pods.sort_by_key(|pod| pod.name_any());
    pods.into_iter().find_map(of_pod)
}

fn of_pod(pod: &Pod) -> Option<Problem> {
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    let unschedulable = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.status == "False" && condition.reason.is_some()
    });
    if let Some(condition) = unschedulable {
        let reason = condition.reason.clone().unwrap_or_default();
        // The scheduler's sentence counts nodes, which come and go.
        return Some(Problem { reason, message: format!("{name} finds no node: see its events") });
    }
    status.container_statuses.iter().flatten().find_map(|container| of_container(&name, container))
}

fn of_container(pod: &str, container: &ContainerStatus) -> Option<Problem> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let (reason, cause) = match reason {
        "ContainerCreating" | "PodInitializing" => return None,
        // The two alternate while it is tried again.
        "ErrImagePull" | "ImagePullBackOff" => ("ImagePullBackOff", format!("cannot pull {}", container.image)),
        "InvalidImageName" => ("InvalidImageName", format!("{} is no image's name", container.image)),
        "CrashLoopBackOff" => ("CrashLoopBackOff", last_words(container)),
        other => (other, waiting.message.clone().unwrap_or_default()),
    };
    Some(Problem { reason: reason.to_owned(), message: format!("{pod}: {}: {cause}", container.name) })
}

fn last_words(container: &ContainerStatus) -> String {
    let terminated = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let Some(terminated) = terminated else { return "it ends again and again".to_owned() };
    let words = terminated.message.as_deref().unwrap_or("").trim();
    let line = words.lines().next_back().unwrap_or("").trim();
    let line: String = line.chars().take(WORDS).collect();
    match (terminated.reason.as_deref(), line.is_empty()) {
        (Some("OOMKilled"), _) => "it uses more memory than its limit".to_owned(),
        (_, true) => format!("it ends with code {}", terminated.exit_code),
        (_, false) => format!("it ends with code {}: {line}", terminated.exit_code),
    }
}
