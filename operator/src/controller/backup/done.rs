//! What the Jobs have done, as they and their pods tell it, and what the status keeps of it when they are gone.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt;
use serde::Deserialize;

use super::cron::Schedule;
use crate::controller::build::backup::{RESTORE_CONTAINER, RESTORE_KEY, STORE_CONTAINER};
use crate::controller::build::upgrade::UPGRADE_KEY;
use crate::controller::fetch::Live;
use crate::controller::job_end::{ended, terminated, text, why_failed};
use crate::controller::plan::BackupPlan;
use crate::controller::reason::Reason;
use crate::crd::{BackupStatus, RestoreState, RestoreStatus};

/// How long after its time a backup may be missing before it is overdue. Most take minutes.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// What the status says about backups, for the condition.
pub struct Standing {
    /// The status of the condition.
    pub status: &'static str,
    /// Its reason.
    pub reason: Reason,
    /// Its message.
    pub message: String,
}

/// What is read of a manifest.
#[derive(Deserialize)]
struct Manifest {
    name: String,
    size: i64,
    began: String,
}

/// Returns the state of a restore: that of its Job, or without one what the status remembers. `None` if it has not begun.
pub fn restore(key: &str, remembered: Option<&RestoreStatus>, live: &Live) -> Option<RestoreStatus> {
    let is_ours = |job: &&Job| job.annotations().get(RESTORE_KEY).is_some_and(|found| found == key);
    let remembered = || remembered.filter(|status| status.key == key && status.state != RestoreState::Running).cloned();
    let Some(job) = live.jobs.iter().find(is_ours) else { return remembered() };
    let (state, time) = match ended(job) {
        None => (RestoreState::Running, None),
        Some((true, time)) => (RestoreState::Succeeded, Some(time)),
        Some((false, time)) => (RestoreState::Failed, Some(time)),
    };
    let message = match state {
        RestoreState::Running => None,
        RestoreState::Succeeded => {
            terminated(live, job, RESTORE_CONTAINER, |state| state.exit_code == 0).and_then(text)
        }
        RestoreState::Failed => Some(why_failed(live, job)),
    };
    Some(RestoreStatus { key: key.to_owned(), state, time: time.map(written), message })
}

/// Returns what the status says about backups: what the Jobs tell, and what it said before.
pub fn backups(
    plan: &BackupPlan,
    live: &Live,
    cron_job: Option<&CronJob>,
    old: &BackupStatus,
    now: Timestamp,
) -> (BackupStatus, Standing) {
    let mut status = old.clone();
    for job in live.jobs.iter().filter(|job| is_of_backup(job)) {
        match ended(job) {
            Some((true, _)) => {
                let told = terminated(live, job, STORE_CONTAINER, |state| state.exit_code == 0)
                    .and_then(|state| state.message.clone());
                let manifest = told.and_then(|text| serde_json::from_str::<Manifest>(text.trim()).ok());
                let began = job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
                let at = manifest.as_ref().and_then(|manifest| manifest.began.parse().ok()).or(began);
                if let Some(at) = at
                    && is_later(at, status.last_time.as_deref())
                {
                    status.last_time = Some(written(at));
                    status.last_size = manifest.as_ref().map(|manifest| manifest.size);
                    status.last = manifest.map(|manifest| manifest.name);
                }
            }
            Some((false, time)) if is_later(time, status.failed_time.as_deref()) => {
                status.failed_time = Some(written(time));
                status.failed_message = Some(why_failed(live, job));
            }
            _ => {}
        }
    }
    let schedule = Schedule::parse(&plan.schedule).ok();
    let next = schedule.as_ref().filter(|_| !plan.suspend).and_then(|schedule| schedule.after(now));
    status.next_time = next.map(written);
    let standing = standing(plan, schedule.as_ref(), cron_job, &status, now);
    (status, standing)
}

fn standing(
    plan: &BackupPlan,
    schedule: Option<&Schedule>,
    cron_job: Option<&CronJob>,
    status: &BackupStatus,
    now: Timestamp,
) -> Standing {
    let say = |status, reason, message: String| Standing { status, reason, message };
    let last = status.last_time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    let failed = status.failed_time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    let of_last = match (&status.last, &status.last_time) {
        (Some(name), Some(time)) => format!("the last backup is {name} of {time}"),
        (None, Some(time)) => format!("the last backup is of {time}"),
        _ => "there is no backup yet".to_owned(),
    };
    if plan.suspend {
        return say(
            "Unknown",
            Reason::BackupSuspended,
            format!("spec.postgres.managed.backup.suspend is true; {of_last}"),
        );
    }
    if let Some(failed) = failed.filter(|failed| last.is_none_or(|last| *failed > last)) {
        let why = status.failed_message.as_deref().unwrap_or_default();
        return say("False", Reason::BackupFailed, format!("a backup failed at {}: {why}; {of_last}", written(failed)));
    }
    let created = cron_job.and_then(|job| job.metadata.creation_timestamp.as_ref()).map(|time| time.0);
    let due = schedule.zip(last.or(created)).and_then(|(schedule, since)| schedule.after(since));
    if let Some(due) = due.filter(|due| now.duration_since(*due) > GRACE) {
        return say(
            "False",
            Reason::BackupOverdue,
            format!("a backup should have been made at {}; {of_last}", written(due)),
        );
    }
    match last {
        Some(_) => say("True", Reason::BackupRecent, of_last),
        None => say("Unknown", Reason::NeverBackedUp, of_last),
    }
}

/// Whether a Job makes a backup.
fn is_of_backup(job: &Job) -> bool {
    [RESTORE_KEY, UPGRADE_KEY].iter().all(|key| !job.annotations().contains_key(*key))
}

fn is_later(time: Timestamp, than: Option<&str>) -> bool {
    than.and_then(|than| than.parse::<Timestamp>().ok()).is_none_or(|than| time.as_second() > than.as_second())
}

fn written(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
