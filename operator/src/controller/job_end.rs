//! How a Job has ended, and what the containers of its pod said.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt;

use super::build::backup::{RESTORE_CONTAINER, STORE_CONTAINER};
use super::build::upgrade::UPGRADE_CONTAINER;
use super::fetch::Live;

/// The label with which Kubernetes marks the pods of a Job.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// How much of a message is kept, in characters.
const MAX_MESSAGE: usize = 500;

/// Returns whether a Job has ended well, and when it ended; `None` while it runs.
pub fn ended(job: &Job) -> Option<(bool, Timestamp)> {
    // It is set only when the Job has ended well.
    if let Some(time) = job.status.as_ref().and_then(|status| status.completion_time.as_ref()) {
        return Some((true, time.0));
    }
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let failed = conditions.find(|condition| condition.type_ == "Failed" && condition.status == "True")?;
    Some((false, failed.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)))
}

/// The containers of Jobs, those that begin last first.
const CONTAINERS: [&str; 5] = [UPGRADE_CONTAINER, RESTORE_CONTAINER, STORE_CONTAINER, "fetch", "dump"];

/// Returns why a Job has failed: what a container said, how one ended that was killed before it could say anything, or
/// what Kubernetes says.
pub fn why_failed(live: &Live, job: &Job) -> String {
    let failed = |name: &str| terminated(live, job, name, |state| state.exit_code != 0);
    let of_job = || {
        let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut failed = conditions.filter(|condition| condition.type_ == "Failed");
        failed.find_map(|condition| condition.message.clone())
    };
    let said = CONTAINERS.into_iter().find_map(|name| failed(name).and_then(text));
    said.or_else(|| CONTAINERS.into_iter().find_map(|name| failed(name).map(|state| end_of(name, state))))
        .or_else(of_job)
        .unwrap_or_else(|| format!("Job {} has failed", job.name_any()))
}

/// Says how a container ended that said nothing.
fn end_of(name: &str, state: &ContainerStateTerminated) -> String {
    let reason = state.reason.as_deref().unwrap_or("Error");
    format!("container {name} ended with exit code {} ({reason})", state.exit_code)
}

/// Returns the last line that a container said of a Job that has ended well.
pub fn said(live: &Live, job: &Job, container: &str) -> Option<String> {
    terminated(live, job, container, |state| state.exit_code == 0).and_then(text)
}

/// Returns how a container of the newest pod of a Job ended, for which `fits` holds.
pub fn terminated<'a>(
    live: &'a Live,
    job: &Job,
    container: &str,
    fits: impl Fn(&ContainerStateTerminated) -> bool,
) -> Option<&'a ContainerStateTerminated> {
    let name = job.name_any();
    let mut pods: Vec<&Pod> = live.backup_pods.iter().filter(|pod| pod.labels().get(JOB_NAME) == Some(&name)).collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp()));
    pods.into_iter().find_map(|pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let mut states = statuses.filter(|status| status.name == container).filter_map(|status| status.state.as_ref());
        states.find_map(|state| state.terminated.as_ref().filter(|state| fits(state)))
    })
}

/// Returns the last line of the message with which a container ended.
pub fn text(state: &ContainerStateTerminated) -> Option<String> {
    let line = state.message.as_deref()?.trim().lines().next_back()?;
    let line: String = line.chars().take(MAX_MESSAGE).collect();
    Some(line).filter(|line| !line.is_empty())
}
