//! How far an upgrade is. It is pure: the objects that exist tell it, and the status what they cannot tell.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::estimate::Estimate;
use super::plan::{Stage, UpgradePlan, key};
use super::servers::Serving;
use crate::controller::backup;
use crate::controller::build::names::{Component, Names};
use crate::controller::build::upgrade::{AGGREGATORS, UPGRADE_CONTAINER, UPGRADE_KEY};
use crate::controller::fetch::Live;
use crate::controller::job_end::{ended, said, why_failed};
use crate::controller::pod_problems;
use crate::controller::reason::Reason;
use crate::controller::rollout;
use crate::crd::{EventAggregator, UpgradeState, UpgradeStatus};

/// How long the new server may take to start: its image is pulled and its volume is made.
const PREPARING: SignedDuration = SignedDuration::from_mins(30);
/// How long the aggregators may take to stop.
const STOPPING: SignedDuration = SignedDuration::from_mins(15);
/// How long after a failed attempt the next one begins by itself. Each further attempt waits four times as long.
const FIRST_RETRY: SignedDuration = SignedDuration::from_mins(10);
const LAST_RETRY: SignedDuration = SignedDuration::from_hours(24);

/// What decides about an upgrade.
pub struct Question<'a> {
    /// The resource.
    pub resource: &'a EventAggregator,
    /// The objects that exist.
    pub live: &'a Live,
    /// Their names.
    pub names: &'a Names,
    /// The server that serves.
    pub serving: &'a Serving,
    /// Name of the StatefulSet of the new server.
    pub next: &'a str,
    /// Bytes of the volume of the new server.
    pub volume_bytes: i64,
    /// Whether a restore is not done yet.
    pub restores: bool,
    /// What is estimated, or what is not known for that.
    pub estimate: Result<Estimate, String>,
}

/// Returns the upgrade that is asked for.
pub fn stage(question: &Question<'_>) -> UpgradePlan {
    let (from, to) = (question.serving.version, question.resource.spec.postgres.managed.version);
    let status = question.resource.status.as_ref().and_then(|status| status.postgres.as_ref()?.upgrade.as_ref());
    let old = status.filter(|old| old.from == from && old.to == to && old.state != UpgradeState::Succeeded);
    let now = question.live.now;
    let plan =
        |attempt, began, since, estimate, stage| UpgradePlan { from, to, attempt, began, since, estimate, stage };
    match old {
        Some(old) if old.state != UpgradeState::Failed => {
            let estimate = old.estimate.as_ref().map(Estimate::of_status);
            let time = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok()).unwrap_or(now);
            let (began, since) = (time(&old.began), time(&old.since));
            let stage = question.under_way(old, since);
            let since = if same(&stage, old.state) { since } else { now };
            plan(old.attempt, began, since, estimate, stage)
        }
        _ => {
            let attempt = old.map_or(0, |old| old.attempt) + 1;
            let estimate = question.estimate.clone().ok();
            plan(attempt, now, now, estimate, question.before(old))
        }
    }
}

/// Whether a stage is the one that the status has.
fn same(stage: &Stage, state: UpgradeState) -> bool {
    match stage {
        Stage::Preparing(_) => state == UpgradeState::Preparing,
        Stage::Stopping(_) => state == UpgradeState::Stopping,
        Stage::Ready | Stage::Copying => state == UpgradeState::Copying,
        Stage::Filled(_) => state == UpgradeState::Switching,
        Stage::Held(..) | Stage::Failed(_) => false,
    }
}

impl Question<'_> {
    /// Returns the stage of an upgrade that has not begun.
    fn before(&self, failed: Option<&UpgradeStatus>) -> Stage {
        let spec = &self.resource.spec;
        if let Some(again) = failed.and_then(|failed| self.rests(failed)) {
            return again;
        }
        let waits = |why: &str| Stage::Held(Reason::UpgradeWaiting, format!("waiting until {why}"));
        if spec.hibernated {
            return waits("spec.hibernated is false");
        }
        if self.restores {
            return waits("the restore has ended");
        }
        let is_ready = |component: Component, name: &str| {
            self.set(name).is_some_and(|set| rollout::of_set(set).is_complete())
                && pod_problems::of(&self.live.pods, component, self.live.now).is_none()
        };
        if !is_ready(Component::Postgres, &self.serving.set) {
            return waits(&format!("PostgreSQL {} is ready", self.serving.version));
        }
        match self.check() {
            Ok(()) => Stage::Preparing(format!("PostgreSQL {} starts", spec.postgres.managed.version)),
            Err(why) => Stage::Held(Reason::UpgradeDoesNotFit, why),
        }
    }

    /// Whether everything fits, as far as is known now.
    fn check(&self) -> Result<(), String> {
        let ignore = self.resource.spec.postgres.managed.upgrade.ignore_estimate;
        match &self.estimate {
            Ok(estimate) => estimate.check(self.volume_bytes, ignore),
            Err(_) if ignore => Ok(()),
            Err(unknown) => Err(format!(
                "how long it takes and whether Redis holds the events that arrive meanwhile cannot be estimated: {unknown}"
            )),
        }
    }

    /// Returns the stage after a failed attempt, while the next one does not begin yet. A change of the spec begins it.
    fn rests(&self, failed: &UpgradeStatus) -> Option<Stage> {
        let factor = 4_i32.saturating_pow(u32::try_from(failed.attempt - 1).unwrap_or(0).min(8));
        let wait = FIRST_RETRY.saturating_mul(factor).min(LAST_RETRY);
        let ended: Timestamp = failed.since.as_ref()?.parse().ok()?;
        let again = ended.checked_add(wait).ok()?;
        let is_same = failed.generation == self.resource.metadata.generation;
        (is_same && self.live.now < again).then(|| {
            let why = failed.message.as_deref().unwrap_or_default();
            let again = again.strftime("%Y-%m-%dT%H:%M:%SZ");
            Stage::Held(
                Reason::UpgradeFailed,
                format!("{why}; it is tried again at {again}, or when the spec is changed"),
            )
        })
    }

    /// Returns the stage of an upgrade that has begun.
    fn under_way(&self, old: &UpgradeStatus, since: Timestamp) -> Stage {
        if self.resource.spec.hibernated {
            return Stage::Failed("spec.hibernated was set".to_owned());
        }
        let key = key(old.from, old.to, old.attempt);
        if let Some(job) = self.live.jobs.iter().find(|job| is_of(job, &key)) {
            return self.of_job(job);
        }
        if self.restores {
            return Stage::Failed("a restore was asked for".to_owned());
        }
        let waited = self.live.now.duration_since(since);
        let next = self.set(self.next).filter(|set| rollout::of_set(set).is_complete());
        if next.is_none() {
            return self.preparing(old, waited);
        }
        if old.state == UpgradeState::Preparing
            && let Err(why) = self.check()
        {
            return Stage::Failed(why);
        }
        match backup::waits_for(self.names, self.live) {
            None if old.state == UpgradeState::Preparing => Stage::Stopping("the aggregators to stop".to_owned()),
            None => Stage::Ready,
            Some(what) if old.state != UpgradeState::Preparing && waited > STOPPING => {
                Stage::Failed(format!("{} minutes were not enough for {what}", STOPPING.as_mins()))
            }
            Some(what) => Stage::Stopping(what),
        }
    }

    /// Returns the stage while the new server is not ready. Events do not wait for it.
    fn preparing(&self, old: &UpgradeStatus, waited: SignedDuration) -> Stage {
        let pod = format!("{}-0", self.next);
        let pods: Vec<_> = self.live.pods.iter().filter(|live| live.name_any() == pod).cloned().collect();
        let problem = pod_problems::of(&pods, Component::Postgres, self.live.now);
        let what = problem.map_or_else(|| format!("PostgreSQL {} starts", old.to), |problem| problem.message);
        match old.state {
            UpgradeState::Preparing if waited <= PREPARING => Stage::Preparing(what),
            UpgradeState::Preparing => {
                Stage::Failed(format!("the new server was not ready after {} minutes: {what}", PREPARING.as_mins()))
            }
            _ => Stage::Failed(format!("the new server is not ready any more: {what}")),
        }
    }

    fn of_job(&self, job: &Job) -> Stage {
        match ended(job) {
            None => Stage::Copying,
            Some((false, _)) => Stage::Failed(why_failed(self.live, job)),
            Some((true, _)) => {
                let set = self.names.of(Component::Aggregator);
                let version = self.set(&set).map(version_of).unwrap_or_default();
                let is_same = job.annotations().get(AGGREGATORS) == Some(&version);
                if !is_same || backup::waits_for(self.names, self.live).is_some() {
                    return Stage::Failed("the aggregators were changed while the rows were copied".to_owned());
                }
                let text = said(self.live, job, UPGRADE_CONTAINER);
                Stage::Filled(text.unwrap_or_else(|| "all rows were copied and compared".to_owned()))
            }
        }
    }

    fn set(&self, name: &str) -> Option<&StatefulSet> {
        self.live.objects.stateful_sets.iter().find(|set| set.name_any() == name)
    }
}

/// Whether a Job does this attempt of an upgrade.
pub fn is_of(job: &Job, key: &str) -> bool {
    job.annotations().get(UPGRADE_KEY).is_some_and(|found| found == key)
}

/// Returns what changes whenever the spec of a StatefulSet changes.
pub fn version_of(set: &StatefulSet) -> String {
    format!("{}/{}", set.metadata.uid.as_deref().unwrap_or_default(), set.metadata.generation.unwrap_or_default())
}
