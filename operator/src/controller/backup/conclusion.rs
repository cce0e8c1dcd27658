//! What the status says about backups and restores.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;

use super::done::{self, Standing};
use super::restore::waits_for;
use crate::controller::fetch::Live;
use crate::controller::plan::{Plan, RestorePlan};
use crate::controller::reason::Reason;
use crate::crd::{BackupStatus, ConditionType, EventAggregatorStatus, RestoreState, RestoreStatus};

/// What the status says about backups and restores.
pub struct Conclusion {
    /// The backups.
    pub backup: Option<BackupStatus>,
    /// The restore in place that was asked for last.
    pub restore: Option<RestoreStatus>,
    /// The restore with which the resource began.
    pub restored_from: Option<RestoreStatus>,
    /// The conditions that the resource has of these.
    pub conditions: Vec<(ConditionType, Standing)>,
    /// What the condition Ready says while a restore is not done.
    pub unready: Option<Standing>,
}

/// Returns what the status says. `cron_job` is the one that is applied.
pub fn conclude(
    plan: &Plan,
    live: &Live,
    cron_job: Option<&CronJob>,
    old: &EventAggregatorStatus,
    now: Timestamp,
) -> Conclusion {
    let mut conditions = Vec::new();
    let backup = plan.backup().map(|backup| {
        let (status, standing) = done::backups(backup, live, cron_job, &old.backup.clone().unwrap_or_default(), now);
        conditions.push((ConditionType::BackedUp, standing));
        status
    });
    let pending = |replaces: bool| plan.restore.as_ref().filter(|restore| restore.replaces == replaces);
    let restore = latest(pending(true), plan.asked.restore.as_deref(), old.restore.as_ref(), live);
    let restored_from = latest(pending(false), plan.asked.restore_from.as_deref(), old.restored_from.as_ref(), live);
    let unready = plan.restore.as_ref().map(|restore| unready(plan, restore, live));
    let of_restore = restore.as_ref().or(restored_from.as_ref());
    if let Some(standing) = of_restore.map(|status| of_restore_status(status, unready.as_ref())) {
        conditions.push((ConditionType::Restored, standing));
    }
    Conclusion { backup, restore, restored_from, conditions, unready }
}

/// Returns the status of a restore: the one that is pending, or the one that is asked for and has been done.
fn latest(
    pending: Option<&RestorePlan>,
    asked: Option<&str>,
    old: Option<&RestoreStatus>,
    live: &Live,
) -> Option<RestoreStatus> {
    let begins = |restore: &RestorePlan| RestoreStatus { key: restore.key.clone(), ..RestoreStatus::default() };
    let of = |key: &str| done::restore(key, old, live);
    match pending {
        Some(restore) => of(&restore.key).or_else(|| Some(begins(restore))),
        // What was done stays in the status when nobody asks for it any more.
        None => asked.and_then(of).or_else(|| old.cloned()),
    }
}

fn unready(plan: &Plan, restore: &RestorePlan, live: &Live) -> Standing {
    let name = restore.backup.as_deref().unwrap_or("the newest backup");
    let (reason, message) = match &restore.failed {
        Some(why) => {
            (Reason::RestoreFailed, format!("nothing begins before spec.restoreFrom succeeds, or is removed: {why}"))
        }
        None => match waits_for(&plan.names, live) {
            Some(waits) => (Reason::Restoring, format!("to restore {name}, waiting for {waits}")),
            None => {
                let estimate = restore.estimate.as_ref().map_or_else(String::new, |text| format!(": {text}"));
                (Reason::Restoring, format!("restoring {name}; events wait in Redis{estimate}"))
            }
        },
    };
    Standing { status: "False", reason, message }
}

fn of_restore_status(status: &RestoreStatus, unready: Option<&Standing>) -> Standing {
    let message = status.message.clone().unwrap_or_else(|| status.key.clone());
    let (status, reason) = match status.state {
        RestoreState::Succeeded => ("True", Reason::RestoreComplete),
        RestoreState::Failed => ("False", Reason::RestoreFailed),
        RestoreState::Running => ("False", Reason::Restoring),
    };
    let message = match (reason, unready) {
        (Reason::Restoring, Some(unready)) => unready.message.clone(),
        _ => message,
    };
    Standing { status, reason, message }
}
