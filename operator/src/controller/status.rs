//! Eighth step: computes the status. It is pure, and takes applied objects: a component is reported as
//! ready only when the stored objects show that it is.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::apply::Applied;
use super::backup::{self, Conclusion, Standing};
use super::build::names::{Component, pvc_of};
use super::capacity::{self, Growth};
use super::cloud_native_pg::plan::ClusterPlan;
use super::error::Error;
use super::fetch::Live;
use super::plan::{Backend, ExternalPlan, Plan};
use super::reason::{ConditionReason, Reason};
use super::rollout::{self, Rollout};
use super::{cloud_native_pg, durable, hibernation, pod_problems, upgrade};
use crate::contract::PUBLISHER_PORT;
use crate::crd::{ConditionType, EventAggregatorStatus, VolumesStatus};

/// The content of one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    status: &'static str,
    reason: ConditionReason,
    message: String,
}

impl Verdict {
    fn new(status: &'static str, reason: impl Into<ConditionReason>, message: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), message: message.into() }
    }

    fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// Returns the status after a successful reconcile. `old` is the current status of the resource.
pub fn of_applied(
    plan: &Plan,
    live: &Live,
    applied: &Applied,
    old: &EventAggregatorStatus,
    now: Timestamp,
) -> EventAggregatorStatus {
    let set = |component: Component| of_component(plan, applied, component);
    let aggregator = set(Component::Aggregator);
    let publisher = applied.objects.deployments.first().map(rollout::of_deployment);
    let part = |component: Component, rollout: Option<Rollout>| verdict(component, rollout, live, now);
    let aggregators = aggregators(plan, applied, part(Component::Aggregator, aggregator));
    let parts = [
        (
            ConditionType::RedisReady,
            match &plan.redis {
                Backend::Managed(_) => part(Component::Redis, set(Component::Redis)),
                Backend::Cluster(never) => match *never {},
                Backend::External(external) => external_verdict(external, aggregator, live),
            },
        ),
        (
            ConditionType::PostgresReady,
            match &plan.postgres {
                Backend::Managed(_) => part(Component::Postgres, set(Component::Postgres)),
                Backend::Cluster(cluster) => of_cluster(plan, cluster, applied),
                Backend::External(external) => external_verdict(external, aggregator, live),
            },
        ),
        (ConditionType::AggregatorReady, aggregators),
        (
            ConditionType::PublisherReady,
            match part(Component::Publisher, publisher) {
                ready if ready.is_true() && applied.publisher_held => Verdict::new(
                    "False",
                    Reason::WaitingForAggregators,
                    "the publishers are updated after all aggregators have been updated",
                ),
                verdict => verdict,
            },
        ),
    ];
    let backups = backup::conclude(plan, live, applied.objects.cron_jobs.first(), old, now);
    let smaller = smaller_volumes(plan, live);
    let (mut ready, mut progressing) = (ready(&parts), progressing(plan, applied, &parts));
    if plan.hibernated {
        (ready, progressing) = hibernated(live, &parts);
    }
    let upgrade = upgrade::conclude(plan, old.postgres.as_ref(), now);
    let waiting = backups.unready.as_ref().or(upgrade.unready.as_ref());
    (ready, progressing) = waiting_for(plan, waiting, ready, progressing);
    if let Some(refused) = refused(applied, &smaller) {
        // Everything else has been applied.
        (ready, progressing) = (refused.clone(), refused);
    } else if let Some(Growth::Underway(message)) = smaller.first().filter(|_| ready.is_true()) {
        ready = Verdict::new("False", Reason::VolumeGrowing, message);
        progressing = Verdict::new("True", Reason::VolumeGrowing, message);
    }
    let mut verdicts = vec![(ConditionType::Ready, ready), (ConditionType::Progressing, progressing)];
    verdicts.extend(parts);
    verdicts.push((ConditionType::Durable, durable(plan)));
    EventAggregatorStatus {
        replicas: aggregator.map(|rollout| rollout.existing),
        desired_replicas: Some(if plan.hibernated { 0 } else { plan.aggregator.replicas }),
        selector: Some(plan.names.selector_text(Component::Aggregator)),
        endpoint: Some(endpoint(plan)),
        volumes: volumes(plan, live),
        ..with_backups(old, backups, upgrade, verdicts, plan.generation, now)
    }
}

/// Returns the condition of the aggregators, which wait for publishers or for PostgreSQL.
fn aggregators(plan: &Plan, applied: &Applied, verdict: Verdict) -> Verdict {
    let waits = |reason, message: String| Verdict::new("False", reason, message);
    match &plan.aggregator.waits_for {
        _ if verdict.is_true() && applied.aggregator_held => waits(
            Reason::WaitingForPublishers,
            "the aggregators get their older image after all publishers have theirs and the backlog is stored"
                .to_owned(),
        ),
        Some(needed) if !plan.hibernated && (verdict.is_true() || verdict.reason.is_underway()) => {
            waits(Reason::WaitingForPostgres, format!("they start when there is {needed}"))
        }
        _ => verdict,
    }
}

/// Returns the condition Durable.
fn durable(plan: &Plan) -> Verdict {
    let durable = durable::durable(plan);
    Verdict::new(durable.status, durable.reason, durable.message)
}

/// Returns the condition of a PostgreSQL that CloudNativePG runs.
fn of_cluster(plan: &Plan, cluster: &ClusterPlan, applied: &Applied) -> Verdict {
    let made = applied.objects.clusters.first();
    let (status, reason, message) = cloud_native_pg::standing(plan, cluster.spec.instances, made);
    Verdict::new(status, reason, message)
}

/// Returns the progress of a component's StatefulSet.
fn of_component(plan: &Plan, applied: &Applied, component: Component) -> Option<Rollout> {
    let name = set_of(plan, component);
    applied.objects.stateful_sets.iter().find(|set| set.name_any() == name).map(rollout::of_set)
}

/// Returns the name of the StatefulSet of a component.
fn set_of(plan: &Plan, component: Component) -> String {
    let postgres = plan.postgres.managed().filter(|_| component == Component::Postgres);
    postgres.map_or_else(|| plan.names.of(component), |postgres| postgres.set.clone())
}

/// Returns the conditions Ready and Progressing while a restore or an upgrade is not done: those of it, unless another part
/// needs somebody.
fn waiting_for(plan: &Plan, unready: Option<&Standing>, ready: Verdict, progressing: Verdict) -> (Verdict, Verdict) {
    let needs_nobody = ready.is_true() || ready.reason.is_underway();
    let Some(unready) = unready.filter(|_| needs_nobody && !plan.hibernated) else { return (ready, progressing) };
    let underway = if unready.reason.is_underway() { "True" } else { "False" };
    (
        Verdict::new("False", unready.reason, unready.message.clone()),
        Verdict::new(underway, unready.reason, unready.message.clone()),
    )
}

/// Replaces some conditions, and what is known of backups. Without backups the resource has no such conditions any more.
fn with_backups(
    old: &EventAggregatorStatus,
    mut backups: Conclusion,
    upgrade: upgrade::Conclusion,
    mut verdicts: Vec<(ConditionType, Verdict)>,
    generation: i64,
    now: Timestamp,
) -> EventAggregatorStatus {
    backups.conditions.extend(upgrade.upgraded.map(|standing| (ConditionType::Upgraded, standing)));
    let verdict = |standing: Standing| Verdict::new(standing.status, standing.reason, standing.message);
    verdicts.extend(backups.conditions.into_iter().map(|(of, standing)| (of, verdict(standing))));
    let mut retained = old.clone();
    let of_backups =
        [ConditionType::BackedUp, ConditionType::Restored, ConditionType::Upgraded].map(ConditionType::as_str);
    let is_new = |type_: &str| verdicts.iter().any(|(of, _)| of.as_str() == type_);
    retained.conditions.retain(|old| !of_backups.contains(&old.type_.as_str()) || is_new(&old.type_));
    EventAggregatorStatus {
        postgres: upgrade.postgres,
        backup: backups.backup,
        restore: backups.restore,
        restored_from: backups.restored_from,
        ..with(&retained, verdicts, generation, now)
    }
}

/// Returns the URL of the publishers.
fn endpoint(plan: &Plan) -> String {
    let scheme = if plan.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}:{PUBLISHER_PORT}", plan.names.host(&plan.names.of(Component::Publisher)))
}

/// Returns the PVC and the requested size of each volume of a managed server.
fn managed_volumes<'a>(
    plan: &'a Plan,
    live: &'a Live,
) -> impl Iterator<Item = (Component, &'a PersistentVolumeClaim, &'a Quantity)> {
    let redis = if let Backend::Managed(redis) = &plan.redis { Some(&redis.volume.size) } else { None };
    let postgres = if let Backend::Managed(postgres) = &plan.postgres { Some(&postgres.volume.size) } else { None };
    [(Component::Redis, redis), (Component::Postgres, postgres)].into_iter().filter_map(|(component, asked)| {
        let name = pvc_of(&set_of(plan, component));
        Some((component, live.pvcs.iter().find(|pvc| pvc.name_any() == name)?, asked?))
    })
}

/// Returns the volumes that are smaller than asked for.
fn smaller_volumes(plan: &Plan, live: &Live) -> Vec<Growth> {
    managed_volumes(plan, live).filter_map(|(_, pvc, asked)| capacity::growth(pvc, asked)).collect()
}

/// Returns the conditions Ready and Progressing when a volume cannot grow.
fn refused(applied: &Applied, smaller: &[Growth]) -> Option<Verdict> {
    if let Some(error) = &applied.volume_refused {
        return Some(Verdict::new("False", error.reason(), error.to_string()));
    }
    smaller.iter().find_map(|growth| match growth {
        Growth::Failed(message) => Some(Verdict::new("False", Reason::VolumeRefused, message)),
        Growth::Underway(_) => None,
    })
}

/// Returns the sizes of the existing volumes.
fn volumes(plan: &Plan, live: &Live) -> Option<VolumesStatus> {
    let mut volumes = VolumesStatus::default();
    for (component, pvc, _) in managed_volumes(plan, live) {
        let size = capacity::existing(pvc).cloned();
        match component {
            Component::Redis => volumes.redis = size,
            _ => volumes.postgres = size,
        }
    }
    (volumes != VolumesStatus::default()).then_some(volumes)
}

/// Returns the status after a failed reconcile: not ready, whatever it was before.
pub fn of_error(error: &Error, generation: i64, old: &EventAggregatorStatus, now: Timestamp) -> EventAggregatorStatus {
    let ready = Verdict::new("False", error.reason(), error.to_string());
    let progressing = match error {
        Error::Leftover { .. } => Verdict::new("True", error.reason(), error.to_string()),
        _ => Verdict::new("False", error.reason(), error.to_string()),
    };
    with(old, vec![(ConditionType::Ready, ready), (ConditionType::Progressing, progressing)], generation, now)
}

/// Returns the status of a paused resource.
pub fn of_paused(generation: i64, old: &EventAggregatorStatus, now: Timestamp) -> EventAggregatorStatus {
    let paused = |status| {
        let message = "spec.paused is true: the operator changes nothing except what spec.deletionPolicy asks for";
        Verdict::new(status, Reason::Paused, message)
    };
    let verdicts = vec![(ConditionType::Ready, paused("Unknown")), (ConditionType::Progressing, paused("False"))];
    with(old, verdicts, generation, now)
}

/// Replaces some conditions. The others, such as those of other controllers, stay as they are, with the generation
/// they were computed for.
fn with(
    old: &EventAggregatorStatus,
    verdicts: Vec<(ConditionType, Verdict)>,
    generation: i64,
    now: Timestamp,
) -> EventAggregatorStatus {
    let mut all = conditions(verdicts, old, generation, now);
    let others = old.conditions.iter().filter(|old| all.iter().all(|new| new.type_ != old.type_)).cloned();
    let others: Vec<_> = others.collect();
    all.extend(others);
    EventAggregatorStatus { observed_generation: Some(generation), conditions: all, ..old.clone() }
}

/// Returns the condition of a component whose pods the operator runs.
fn verdict(component: Component, rollout: Option<Rollout>, live: &Live, now: Timestamp) -> Verdict {
    let Some(rollout) = rollout else {
        let message = format!("the {} has not been created yet", component.as_str());
        return Verdict::new("False", Reason::Missing, message);
    };
    if rollout.is_complete() {
        return match rollout.wanted {
            0 => Verdict::new("True", Reason::ScaledToZero, "0 pods are requested"),
            wanted => Verdict::new("True", Reason::Ready, format!("{wanted} of {wanted} pods are ready")),
        };
    }
    if let Some(problem) = pod_problems::of(&live.pods, component, now) {
        return Verdict::new("False", problem.reason, problem.message);
    }
    let Rollout { wanted, existing, ready, all_updated } = rollout;
    let reason = if existing > wanted {
        Reason::ScalingDown
    } else if all_updated {
        Reason::Starting
    } else {
        Reason::RollingOut
    };
    let unready = live.unready_reason.as_ref().filter(|_| component == Component::Aggregator);
    let message = match unready {
        Some(unready) => format!("{ready} of {wanted} pods are ready; {unready}"),
        None if existing > wanted => format!("{existing} pods exist, {wanted} are requested"),
        None => format!("{ready} of {wanted} pods are ready"),
    };
    Verdict::new("False", reason, message)
}

/// Returns the condition of an external server. The operator does not connect to it: ready aggregators
/// show that the server can be used.
fn external_verdict(external: &ExternalPlan, aggregator: Option<Rollout>, live: &Live) -> Verdict {
    let secret = format!("the server of Secret {}", external.secret);
    match aggregator {
        Some(Rollout { wanted: 0, .. }) => {
            Verdict::new("True", Reason::NotUsed, format!("{secret} is not used, because no aggregator is requested"))
        }
        Some(Rollout { ready: 1.., .. }) => {
            Verdict::new("True", Reason::External, format!("{secret} is used by aggregators"))
        }
        _ => {
            let unready = live.unready_reason.as_ref().map_or_else(String::new, |unready| format!("; {unready}"));
            let message = format!("{secret} is not known to work, because no aggregator is ready{unready}");
            Verdict::new("False", Reason::NotConfirmed, message)
        }
    }
}

/// Returns the condition Ready. Of several components that are not ready it names one for which waiting is
/// not enough.
fn ready(parts: &[(ConditionType, Verdict)]) -> Verdict {
    let mut unready = parts.iter().filter(|(_, verdict)| !verdict.is_true());
    match unready.clone().find(|(_, verdict)| !verdict.reason.is_underway()).or_else(|| unready.next()) {
        None => Verdict::new("True", Reason::AllReady, "all components are ready"),
        Some((part, verdict)) => {
            Verdict::new("False", verdict.reason.clone(), format!("{}: {}", part.as_str(), verdict.message))
        }
    }
}

/// Returns the condition Progressing: false when nothing is being changed, or when waiting is not enough.
fn progressing(plan: &Plan, applied: &Applied, parts: &[(ConditionType, Verdict)]) -> Verdict {
    let mut unready = parts.iter().filter(|(_, verdict)| !verdict.is_true());
    if let Some((part, verdict)) = unready.clone().find(|(_, verdict)| !verdict.reason.is_underway()) {
        return Verdict::new("False", Reason::Stalled, format!("{}: {}", part.as_str(), verdict.message));
    }
    if let Some((part, verdict)) = unready.next() {
        return Verdict::new("True", verdict.reason.clone(), format!("{}: {}", part.as_str(), verdict.message));
    }
    if let Some(other) = &applied.waits_for {
        let message = format!("Redis and PostgreSQL are changed, which restarts them, after those of {other}");
        return Verdict::new("True", Reason::WaitingForTurn, message);
    }
    match plan.autoscaling_conflicts.first() {
        Some(conflict) => Verdict::new("False", Reason::AutoscalingConflict, conflict),
        None => Verdict::new("False", Reason::Complete, "everything has been applied and is ready"),
    }
}

/// Returns the conditions Ready and Progressing of a resource that hibernates.
fn hibernated(live: &Live, parts: &[(ConditionType, Verdict)]) -> (Verdict, Verdict) {
    let running: Vec<_> =
        hibernation::running(live).into_iter().map(|(component, count)| format!("{count} {component}")).collect();
    if running.is_empty() {
        let message = "spec.hibernated is true: no pod runs, and volumes and Secrets are retained";
        let verdict = Verdict::new("False", Reason::Hibernated, message);
        return (verdict.clone(), verdict);
    }
    let message = format!("spec.hibernated is true: waiting for pods to stop, {} left", running.join(", "));
    // A pod that cannot stop needs somebody.
    match parts.iter().find(|(_, verdict)| !verdict.is_true() && !verdict.reason.is_underway()) {
        Some((part, verdict)) => {
            let message = format!("{message}; {}: {}", part.as_str(), verdict.message);
            (
                Verdict::new("False", verdict.reason.clone(), message.clone()),
                Verdict::new("False", Reason::Stalled, message),
            )
        }
        None => (
            Verdict::new("False", Reason::Hibernating, message.clone()),
            Verdict::new("True", Reason::Hibernating, message),
        ),
    }
}

/// Returns the conditions. `lastTransitionTime` is retained where the status did not change.
fn conditions(
    verdicts: Vec<(ConditionType, Verdict)>,
    old: &EventAggregatorStatus,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let with_time = |(of, verdict): (ConditionType, Verdict)| {
        let before = old.condition(of).filter(|before| before.status == verdict.status);
        Condition {
            type_: of.as_str().to_owned(),
            status: verdict.status.to_owned(),
            reason: verdict.reason.as_str().to_owned(),
            message: verdict.message,
            observed_generation: Some(generation),
            last_transition_time: before.map_or_else(|| Time(now), |before| before.last_transition_time.clone()),
        }
    };
    verdicts.into_iter().map(with_time).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_names_the_component_for_which_waiting_is_not_enough() {
        let mut parts = vec![
            (ConditionType::RedisReady, Verdict::new("False", Reason::NotConfirmed, "the server of Secret cache")),
            (ConditionType::PostgresReady, Verdict::new("True", Reason::Ready, "1 of 1 pods are ready")),
            (ConditionType::AggregatorReady, Verdict::new("False", Reason::Starting, "0 of 1 pods are ready")),
        ];
        assert_eq!(
            ready(&parts),
            Verdict::new("False", Reason::NotConfirmed, "RedisReady: the server of Secret cache")
        );
        parts[2].1 = Verdict::new("False", Reason::CrashLoopBackOff, "it terminates");
        assert_eq!(ready(&parts), Verdict::new("False", Reason::CrashLoopBackOff, "AggregatorReady: it terminates"));
    }
}
