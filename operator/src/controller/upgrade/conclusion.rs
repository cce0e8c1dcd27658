//! What the status says about the managed PostgreSQL and its upgrade.

use jiff::Timestamp;

use super::plan::{Stage, UpgradePlan};
use crate::controller::backup::Standing;
use crate::controller::plan::Plan;
use crate::controller::reason::Reason;
use crate::crd::{PostgresStatus, UpgradeState, UpgradeStatus};

/// What the status says.
pub struct Conclusion {
    /// The server and its upgrade.
    pub postgres: Option<PostgresStatus>,
    /// The condition Upgraded.
    pub upgraded: Option<Standing>,
    /// What the conditions Ready and Progressing say while the server has not the version that is asked for.
    pub unready: Option<Standing>,
}

/// Returns what the status says. `old` is what it said before.
pub fn conclude(plan: &Plan, old: Option<&PostgresStatus>, now: Timestamp) -> Conclusion {
    let Some(postgres) = plan.postgres.managed() else {
        return Conclusion { postgres: None, upgraded: None, unready: None };
    };
    let old = old.and_then(|old| old.upgrade.as_ref());
    let upgrade = match &plan.upgrade {
        Some(upgrade) => under_way(plan, upgrade, old, now),
        None => old.and_then(|old| ended(plan, old, postgres.version, now)),
    };
    let upgraded = match &plan.upgrade {
        Some(upgrade) => Some(of_stage(upgrade)),
        None => upgrade.as_ref().map(|upgrade| of_ended(plan, upgrade)),
    };
    let unready = plan.upgrade.as_ref().map(of_stage).or_else(|| waits_for_former(plan));
    let status = PostgresStatus {
        version: postgres.version,
        stateful_set: postgres.set.clone(),
        upgrade,
        previous: plan.previous.pvcs.clone(),
    };
    Conclusion { postgres: Some(status), upgraded, unready }
}

fn written(time: Timestamp) -> Option<String> {
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Returns the status of an upgrade that is asked for.
fn under_way(plan: &Plan, upgrade: &UpgradePlan, old: Option<&UpgradeStatus>, now: Timestamp) -> Option<UpgradeStatus> {
    let state = match &upgrade.stage {
        // What failed before stays in the status.
        Stage::Held(..) => return old.cloned(),
        Stage::Preparing(_) => UpgradeState::Preparing,
        Stage::Stopping(_) => UpgradeState::Stopping,
        Stage::Ready | Stage::Copying => UpgradeState::Copying,
        Stage::Filled(_) => UpgradeState::Switching,
        Stage::Failed(_) => UpgradeState::Failed,
    };
    let message = match &upgrade.stage {
        Stage::Filled(text) | Stage::Failed(text) => Some(text.clone()),
        _ => None,
    };
    Some(UpgradeStatus {
        from: upgrade.from,
        to: upgrade.to,
        state,
        attempt: upgrade.attempt,
        generation: Some(plan.generation).filter(|_| state == UpgradeState::Failed),
        began: written(upgrade.began),
        since: written(if state == UpgradeState::Failed { now } else { upgrade.since }),
        estimate: upgrade.estimate.map(|estimate| estimate.status()),
        message,
    })
}

/// Returns the status of an upgrade that nobody asks for any more: it has succeeded, or was taken back.
fn ended(plan: &Plan, old: &UpgradeStatus, version: i32, now: Timestamp) -> Option<UpgradeStatus> {
    match old.state {
        UpgradeState::Succeeded => Some(old.clone()),
        _ if old.to == version => {
            let state = UpgradeState::Succeeded;
            Some(UpgradeStatus { state, since: written(now), generation: Some(plan.generation), ..old.clone() })
        }
        _ => None,
    }
}

fn of_ended(plan: &Plan, upgrade: &UpgradeStatus) -> Standing {
    let mut message = upgrade.message.clone().unwrap_or_default();
    if !plan.previous.pvcs.is_empty() {
        message = format!(
            "{message}; {} of the former version {} kept until spec.postgres.managed.upgrade.keepPrevious is false",
            plan.previous.pvcs.join(", "),
            if plan.previous.pvcs.len() == 1 { "is" } else { "are" }
        );
    }
    Standing { status: "True", reason: Reason::UpgradeComplete, message }
}

fn of_stage(upgrade: &UpgradePlan) -> Standing {
    let (from, to) = (upgrade.from, upgrade.to);
    let estimate = upgrade.estimate.map_or_else(String::new, |estimate| format!(" ({})", estimate.text()));
    let (reason, message) = match &upgrade.stage {
        Stage::Held(reason, why) => {
            (*reason, format!("PostgreSQL {from} serves on, and the upgrade to {to} has not begun: {why}"))
        }
        Stage::Preparing(what) => (
            Reason::Upgrading,
            format!("preparing the upgrade from PostgreSQL {from} to {to}, all else goes on: {what}"),
        ),
        Stage::Stopping(what) => (
            Reason::Upgrading,
            format!("to upgrade PostgreSQL {from} to {to}, waiting for {what}; events wait in Redis"),
        ),
        Stage::Ready | Stage::Copying => {
            let what = format!("copying and comparing the rows of PostgreSQL {from} to {to}; events wait in Redis");
            (Reason::Upgrading, what + &estimate)
        }
        Stage::Filled(_) => {
            (Reason::Upgrading, format!("switching from PostgreSQL {from} to {to}; events wait in Redis"))
        }
        Stage::Failed(why) => {
            (Reason::UpgradeFailed, format!("PostgreSQL {from} serves on, and the upgrade to {to} failed: {why}"))
        }
    };
    Standing { status: "False", reason, message }
}

/// Returns what is said while a former server still runs.
fn waits_for_former(plan: &Plan) -> Option<Standing> {
    let running = plan.previous.running.first()?;
    let message = format!("waiting until {running} of the former version has stopped; events wait in Redis");
    Some(Standing { status: "False", reason: Reason::Upgrading, message })
}
