//! Decides which servers of a resource keep their state because those of another one restart.

use std::time::Instant;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use super::build::Objects;
use super::build::names::Component;
use super::fetch::Live;
use super::plan::Plan;
use super::rollout;
use super::server_restarts::ServerRestarts;

/// The servers of a resource that keep their state because those of another one restart.
#[derive(Debug, Default)]
pub struct Held {
    /// Names of the StatefulSets.
    pub sets: Vec<String>,
    /// The resource that restarts its servers, as `NAMESPACE/NAME`.
    pub waits_for: Option<String>,
}

/// Decides which servers keep their state. `differs` says whether an existing StatefulSet is to be changed, and `asked_for`
/// whether the user has changed the resource since it was last looked at.
pub fn hold(
    restarts: &ServerRestarts,
    plan: &Plan,
    live: &Live,
    desired: &Objects,
    asked_for: bool,
    differs: impl Fn(&StatefulSet, &StatefulSet) -> bool,
) -> Held {
    let uid = plan.owner.uid.as_str();
    let redis = plan.redis.managed().map(|_| plan.names.of(Component::Redis));
    let postgres = plan.postgres.managed().map(|postgres| postgres.set.clone());
    let servers: Vec<_> = redis.into_iter().chain(postgres).collect();
    let existing = |name: &String| live.objects.stateful_sets.iter().find(|set| set.name_any() == *name);
    let wanted = |name: &String| desired.stateful_sets.iter().find(|set| set.name_any() == *name);
    let changed: Vec<_> = servers
        .iter()
        .filter(|name| match (existing(name), wanted(name)) {
            // A server without a pod does not restart, and one that is stopped or started must not wait.
            (Some(existing), Some(wanted)) => {
                replicas(existing) == 1 && replicas(wanted) == 1 && differs(wanted, existing)
            }
            _ => false,
        })
        .cloned()
        .collect();
    let busy = servers.iter().filter_map(existing).any(|set| !rollout::of_set(set).is_complete());
    let (name, now) = (format!("{}/{}", plan.names.namespace, plan.names.name), Instant::now());
    if !changed.is_empty() && !asked_for {
        return match restarts.ask(uid, &name, now) {
            None => Held::default(),
            waits_for => Held { sets: changed, waits_for },
        };
    }
    if busy || !changed.is_empty() {
        restarts.restarts(uid, &name, now);
    } else {
        restarts.done(uid);
    }
    Held::default()
}

fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}
