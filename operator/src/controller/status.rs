//! Fifth step: what to say of it. Pure, and from applied objects alone: nothing is called ready on
//! the word of a spec.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::apply::Applied;
use super::build::names::Component;
use super::error::Error;
use super::fetch::Live;
use super::plan::{Backend, ExternalPlan, Plan};
use super::pod_problems;
use super::rollout::{self, Rollout};
use crate::contract::PUBLISHER_PORT;
use crate::crd::{ConditionType, EventAggregatorStatus};

/// What is said of one aspect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    status: &'static str,
    reason: String,
    message: String,
}

impl Verdict {
    fn new(status: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), message: message.into() }
    }

    fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// The status after a reconcile that went through. `old` is what the resource bears now.
pub fn of_applied(
    plan: &Plan,
    live: &Live,
    applied: &Applied,
    old: &EventAggregatorStatus,
    now: Timestamp,
) -> EventAggregatorStatus {
    let sets = &applied.objects.stateful_sets;
    let set = |part: Component| sets.iter().find(|set| set.name_any() == plan.names.of(part)).map(rollout::of_set);
    let aggregator = set(Component::Aggregator);
    let publisher = applied.objects.deployments.first().map(rollout::of_deployment);

    let part = |part: Component, rollout: Option<Rollout>| verdict(part, rollout, live);
    let aggregators = part(Component::Aggregator, aggregator);
    let parts = [
        (
            ConditionType::RedisReady,
            match &plan.redis {
                Backend::Managed(_) => part(Component::Redis, set(Component::Redis)),
                Backend::External(external) => external_verdict(external, aggregator, live),
            },
        ),
        (
            ConditionType::PostgresReady,
            match &plan.postgres {
                Backend::Managed(_) => part(Component::Postgres, set(Component::Postgres)),
                Backend::External(external) => external_verdict(external, aggregator, live),
            },
        ),
        (ConditionType::AggregatorReady, aggregators),
        (
            ConditionType::PublisherReady,
            match part(Component::Publisher, publisher) {
                ready if ready.is_true() && applied.publisher_held => Verdict::new(
                    "False",
                    "WaitingForAggregators",
                    "new publishers wait until all aggregators are replaced",
                ),
                verdict => verdict,
            },
        ),
    ];
    let (ready, progressing) = match &applied.volume_refused {
        // All else is as asked for, but not this.
        Some(error) => {
            let refused = || Verdict::new("False", error.category(), error.to_string());
            (refused(), refused())
        }
        None => (ready(&parts), progressing(live, &parts)),
    };
    let mut verdicts = vec![(ConditionType::Ready, ready), (ConditionType::Progressing, progressing)];
    verdicts.extend(parts);

    EventAggregatorStatus {
        observed_generation: Some(plan.generation),
        conditions: conditions(verdicts, old, plan.generation, now),
        replicas: aggregator.map(|rollout| rollout.existing),
        desired_replicas: Some(plan.aggregator.replicas),
        selector: Some(plan.names.selector_text(Component::Aggregator)),
        endpoint: Some(format!("http://{}:{PUBLISHER_PORT}", plan.names.host(&plan.names.of(Component::Publisher)))),
        ..old.clone()
    }
}

/// The status after a reconcile that failed: not ready, whatever it was before.
pub fn of_error(error: &Error, generation: i64, old: &EventAggregatorStatus, now: Timestamp) -> EventAggregatorStatus {
    let ready = Verdict::new("False", error.category(), error.to_string());
    let progressing = match error {
        Error::Leftover { .. } => Verdict::new("True", error.category(), error.to_string()),
        _ => Verdict::new("False", error.category(), error.to_string()),
    };
    with(old, vec![(ConditionType::Ready, ready), (ConditionType::Progressing, progressing)], generation, now)
}

/// The status while the operator does not look.
pub fn of_paused(generation: i64, old: &EventAggregatorStatus, now: Timestamp) -> EventAggregatorStatus {
    let paused = |status| Verdict::new(status, "Paused", "spec.paused is set: the operator leaves everything as it is");
    let verdicts = vec![(ConditionType::Ready, paused("Unknown")), (ConditionType::Progressing, paused("False"))];
    with(old, verdicts, generation, now)
}

/// Replaces some conditions; the others keep what they say, and of which generation they say it.
fn with(
    old: &EventAggregatorStatus,
    verdicts: Vec<(ConditionType, Verdict)>,
    generation: i64,
    now: Timestamp,
) -> EventAggregatorStatus {
    let mut all = conditions(verdicts, old, generation, now);
    let kept = old.conditions.iter().filter(|old| all.iter().all(|new| new.type_ != old.type_)).cloned();
    let kept: Vec<_> = kept.collect();
    all.extend(kept);
    EventAggregatorStatus { observed_generation: Some(generation), conditions: all, ..old.clone() }
}

fn verdict(part: Component, rollout: Option<Rollout>, live: &Live) -> Verdict {
    let Some(rollout) = rollout else { return Verdict::new("False", "Missing", "it is not there") };
    if rollout.is_complete() {
        return match rollout.wanted {
            0 => Verdict::new("True", "ScaledToZero", "none is asked for"),
            wanted => Verdict::new("True", "Ready", format!("{wanted} of {wanted} ready")),
        };
    }
    if let Some(problem) = pod_problems::of(&live.pods, part) {
        return Verdict::new("False", problem.reason, problem.message);
    }
    let Rollout { wanted, existing, ready, all_updated } = rollout;
    let reason = if existing > wanted {
        "ScalingDown"
    } else if all_updated {
        "Starting"
    } else {
        "RollingOut"
    };
    let lacks = live.aggregator_lacks.as_ref().filter(|_| part == Component::Aggregator);
    let message = match lacks {
        Some(lacks) => format!("{ready} of {wanted} ready; {lacks}"),
        None if existing > wanted => format!("{existing} there, {wanted} asked for"),
        None => format!("{ready} of {wanted} ready"),
    };
    Verdict::new("False", reason, message)
}

/// The operator does not log in anywhere: whether an external server can be used, aggregators say.
fn external_verdict(external: &ExternalPlan, aggregator: Option<Rollout>, live: &Live) -> Verdict {
    let given = format!("given by Secret {}", external.secret);
    match aggregator {
        Some(Rollout { wanted: 0, .. }) => {
            Verdict::new("True", "NotUsed", format!("{given}; no aggregator is asked for"))
        }
        Some(Rollout { ready: 1.., .. }) => Verdict::new("True", "External", format!("{given}; aggregators reach it")),
        _ => {
            let lacks = live.aggregator_lacks.as_ref().map_or_else(String::new, |lacks| format!("; {lacks}"));
            let message = format!("{given}; no aggregator is ready, which would show that it answers{lacks}");
            Verdict::new("False", "NotConfirmed", message)
        }
    }
}

/// Of several parts that are not ready it names one that waiting does not help.
fn ready(parts: &[(ConditionType, Verdict)]) -> Verdict {
    let mut unready = parts.iter().filter(|(_, verdict)| !verdict.is_true());
    match unready.clone().find(|(_, verdict)| !is_underway(verdict)).or_else(|| unready.next()) {
        None => Verdict::new("True", "AllReady", "everything is there and ready"),
        Some((part, verdict)) => {
            Verdict::new("False", verdict.reason.clone(), format!("{}: {}", part.as_str(), verdict.message))
        }
    }
}

/// Reasons that say that something is on its way, and that waiting is all there is to do.
const UNDERWAY: [&str; 6] =
    ["Starting", "RollingOut", "ScalingDown", "WaitingForAggregators", "Missing", "NotConfirmed"];

fn is_underway(verdict: &Verdict) -> bool {
    UNDERWAY.contains(&verdict.reason.as_str())
}

fn progressing(live: &Live, parts: &[(ConditionType, Verdict)]) -> Verdict {
    let mut unready = parts.iter().filter(|(_, verdict)| !verdict.is_true());
    if let Some((part, verdict)) = unready.clone().find(|(_, verdict)| !is_underway(verdict)) {
        return Verdict::new("False", "Stalled", format!("{}: {}", part.as_str(), verdict.message));
    }
    if let Some((part, verdict)) = unready.next() {
        return Verdict::new("True", verdict.reason.clone(), format!("{}: {}", part.as_str(), verdict.message));
    }
    match live.autoscalers.first() {
        Some(other) => {
            let message =
                format!("HorizontalPodAutoscaler {other} scales it, so spec.aggregator.autoscaling does nothing");
            Verdict::new("False", "AutoscalingConflict", message)
        }
        None => Verdict::new("False", "Complete", "everything is as asked for"),
    }
}

/// Conditions whose time of change is kept where nothing changed.
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
            reason: verdict.reason,
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
    fn ready_names_the_part_that_waiting_does_not_help() {
        let mut parts = vec![
            (ConditionType::RedisReady, Verdict::new("False", "NotConfirmed", "given by Secret cache")),
            (ConditionType::PostgresReady, Verdict::new("True", "Ready", "1 of 1 ready")),
            (ConditionType::AggregatorReady, Verdict::new("False", "Starting", "0 of 1 ready")),
        ];
        assert_eq!(ready(&parts), Verdict::new("False", "NotConfirmed", "RedisReady: given by Secret cache"));
        parts[2].1 = Verdict::new("False", "CrashLoopBackOff", "it ends");
        assert_eq!(ready(&parts), Verdict::new("False", "CrashLoopBackOff", "AggregatorReady: it ends"));
    }
}
