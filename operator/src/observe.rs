//! Reads backlog and totals of all resources from their programs at an interval, writes them to the status if
//! they changed, and drives autoscaling. This is separate from reconciling: numbers that change with every
//! event must not cause the operator to read every object.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, future};
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::controller::build::names::{MANAGER, Names};
use crate::controller::plan::names_of;
use crate::controller::upgrade::measured::Measured;
use crate::controller::{Context, Wake};
use crate::crd::{EventAggregator, Totals};
use crate::program_client::Programs;

/// How long a write may take, or the request for a reconcile.
const DEADLINE: Duration = Duration::from_secs(5);
/// The longest wait before programs that do not respond are queried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Number of resources whose programs are queried at the same time.
const MAX_CONCURRENT: usize = 8;

type Guarded = DeserializeGuard<EventAggregator>;

/// The numbers that the programs of one resource report. `None` means unknown, which is not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observation {
    /// Events accepted and not stored yet.
    pub backlog: Option<i64>,
    /// The totals that the aggregators have counted.
    pub totals: Option<Totals>,
}

/// Observes backlog and totals of all resources in a store. There is one for each namespace that is watched.
pub struct Observer {
    context: Arc<Context>,
}

impl Observer {
    /// Creates an observer of the programs that `context` can reach.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Observes all resources in `store` at each `interval` until `stop` is cancelled.
    pub async fn run(&self, store: Store<Guarded>, wake: Wake, interval: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Decisions and reasons are shared with the observers of other namespaces, so this one forgets only its own.
        let (mut scaled, mut observed) = (HashSet::new(), HashSet::new());
        let mut silent = Silent::default();
        let mut existing = HashSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let resources = store.state();
            let active = resources.iter().filter(|resource| resource.0.as_ref().is_ok_and(is_active));
            let now = Instant::now();
            let due: Vec<_> = active.filter(|resource| silent.is_due(resource.as_ref(), now)).cloned().collect();
            let wake = &wake;
            let round = futures::stream::iter(due)
                .map(|resource| async move {
                    let responded = match &resource.0 {
                        Ok(readable) => self.observe(readable, wake).await,
                        Err(_) => true,
                    };
                    (resource, responded)
                })
                .buffer_unordered(MAX_CONCURRENT)
                .for_each(|(resource, responded)| {
                    silent.record(resource.as_ref(), responded, interval, Instant::now());
                    future::ready(())
                });
            tokio::select! {
                () = stop.cancelled() => return,
                () = round => {}
            }
            silent.retain(&resources);
            self.context.measurements.forget(Instant::now());
            let uids = resources.iter().filter_map(|resource| resource.uid()).collect();
            self.context.unready.forget(observed.difference(&uids));
            self.context.server_restarts.forget(observed.difference(&uids));
            observed = uids;
            let scale = resources.iter().filter_map(|resource| {
                let resource = resource.0.as_ref().ok()?;
                resource.spec.aggregator.autoscaling.as_ref().and(resource.uid())
            });
            let scale = scale.collect();
            self.context.decisions.forget(scaled.difference(&scale));
            scaled = scale;
            let names =
                resources.iter().map(|resource| (resource.namespace().unwrap_or_default(), resource.name_any()));
            let names: HashSet<_> = names.collect();
            self.context.programs.forget(existing.difference(&names));
            existing = names;
        }
    }

    /// Observes one resource, and returns whether one of its programs responded.
    async fn observe(&self, resource: &EventAggregator, wake: &Wake) -> bool {
        let (names, programs) = (names_of(resource), &self.context.programs);
        self.give_turn(resource, &names, wake).await;
        if !programs.knows(&names, resource.spec.tls.enabled, resource.spec.auth.is_some()) {
            // The first reconcile reads the CAs and the token. Until then the numbers in the status stay.
            return true;
        }
        let (backlog, totals, unready, measured) = tokio::join!(
            programs.backlog(&names),
            programs.totals(&names),
            self.ask_unready(resource, &names, wake),
            measure(programs, resource, &names)
        );
        if let (Some(measured), Some(uid)) = (measured, resource.uid()) {
            let accepted = totals.zip(backlog).map(|(totals, backlog)| totals.received + backlog);
            let measured = Measured { backlog, ..measured };
            if self.context.measurements.note(&uid, measured, accepted, Instant::now()) {
                self.wake(resource, wake).await;
            }
        }
        let observation = Observation { backlog, totals };
        self.scale(resource, backlog, wake).await;
        let status = resource.status.clone().unwrap_or_default();
        let before = Observation { backlog: status.backlog, totals: status.totals };
        let responded = backlog.is_some() || totals.is_some() || unready;
        if observation == before {
            return responded;
        }
        // Null removes a number that is unknown now.
        let patch = Patch::Merge(json!({"status": {"backlog": backlog, "totals": totals}}));
        let api: Api<EventAggregator> = Api::namespaced(self.context.client.clone(), &names.namespace);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let written = api.patch_status(&names.name, &params, &patch);
        match tokio::time::timeout(DEADLINE, written).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(name = names.name, %error, "cannot write backlog and totals"),
            Err(_) => tracing::debug!(name = names.name, "cannot write backlog and totals in time"),
        }
        responded
    }

    /// Asks an aggregator that is not ready for the reason, and requests a reconcile if it is another one than before.
    /// Returns whether there is an answer.
    async fn ask_unready(&self, resource: &EventAggregator, names: &Names, wake: &Wake) -> bool {
        let unready = &self.context.unready;
        let Some(uid) = resource.uid() else { return false };
        let Some(pod) = unready.pod(&uid) else { return false };
        let reason = self.context.programs.why_not_ready(names, &pod).await;
        let answered = reason.is_some();
        if unready.answered(&uid, &pod, reason) {
            self.wake(resource, wake).await;
        }
        answered
    }

    /// Has a resource reconciled that waits to restart its servers, if its turn has come.
    async fn give_turn(&self, resource: &EventAggregator, names: &Names, wake: &Wake) {
        let Some(uid) = resource.uid() else { return };
        let name = format!("{}/{}", names.namespace, names.name);
        if self.context.server_restarts.take_turn(&uid, &name, Instant::now()) {
            self.wake(resource, wake).await;
        }
    }

    /// Requests a reconcile, and returns whether that was possible.
    async fn wake(&self, resource: &EventAggregator, wake: &Wake) -> bool {
        let woken = ObjectRef::new(&resource.name_any()).within(&resource.namespace().unwrap_or_default());
        let sent = matches!(tokio::time::timeout(DEADLINE, wake.send(woken)).await, Ok(Ok(())));
        if !sent {
            // The next observation tries again.
            tracing::debug!(name = resource.name_any(), "cannot request a reconcile");
        }
        sent
    }

    async fn scale(&self, resource: &EventAggregator, backlog: Option<i64>, wake: &Wake) {
        let (Some(scaling), Some(uid)) = (&resource.spec.aggregator.autoscaling, resource.uid()) else { return };
        // Before the first reconcile there is no number of replicas to start from.
        let Some(current) = resource.status.as_ref().and_then(|status| status.desired_replicas) else { return };
        let decisions = &self.context.decisions;
        let Some(decided) = decisions.observe(&uid, scaling, current, backlog, Instant::now()) else { return };
        tracing::info!(name = resource.name_any(), backlog, decided, "scaling the aggregators");
        if self.wake(resource, wake).await {
            decisions.passed_on(&uid, decided);
        }
    }
}

/// Measures the load of a resource for an estimate, if an upgrade or a restore is asked for.
async fn measure(programs: &Programs, resource: &EventAggregator, names: &Names) -> Option<Measured> {
    let managed = &resource.spec.postgres.managed;
    let serves = resource.status.as_ref().and_then(|status| status.postgres.as_ref()).map(|postgres| postgres.version);
    let is_wanted = resource.spec.postgres.external.is_none()
        && (serves.is_some_and(|serves| serves != managed.version) || managed.backup.is_some());
    if is_wanted { Some(programs.load(names).await) } else { None }
}

/// Whether the programs of a resource are queried.
fn is_active(resource: &EventAggregator) -> bool {
    !resource.spec.paused && resource.metadata.deletion_timestamp.is_none()
}

/// The resources whose programs did not respond, by their uid. Each waits longer before it is queried again, because a
/// query without a response takes seconds, and the other resources would wait for it.
#[derive(Debug, Default)]
struct Silent(HashMap<String, Quiet>);

#[derive(Debug)]
struct Quiet {
    wait: Duration,
    until: Instant,
    version: Option<String>,
}

impl Silent {
    /// Whether a resource is queried now. A change of the resource, such as a pod that became ready, ends the wait.
    fn is_due(&self, resource: &impl ResourceExt, now: Instant) -> bool {
        let quiet = resource.uid().and_then(|uid| self.0.get(&uid));
        quiet.is_none_or(|quiet| now >= quiet.until || quiet.version != resource.resource_version())
    }

    fn record(&mut self, resource: &impl ResourceExt, responded: bool, interval: Duration, now: Instant) {
        let Some(uid) = resource.uid() else { return };
        if responded {
            self.0.remove(&uid);
            return;
        }
        let before = self.0.get(&uid).filter(|quiet| quiet.version == resource.resource_version());
        let wait = before.map_or(interval, |quiet| quiet.wait * 2).min(LONGEST_WAIT.max(interval));
        self.0.insert(uid, Quiet { wait, until: now + wait, version: resource.resource_version() });
    }

    /// Forgets the resources that were deleted.
    fn retain(&mut self, resources: &[Arc<Guarded>]) {
        let uids: HashSet<_> = resources.iter().filter_map(|resource| resource.uid()).collect();
        self.0.retain(|uid, _| uids.contains(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_do_not_respond_are_queried_less_often_until_their_resource_changes() {
        let mut resource = EventAggregator::new("ledger", Default::default());
        resource.metadata.uid = Some("uid".to_owned());
        resource.metadata.resource_version = Some("1".to_owned());
        let (interval, start) = (Duration::from_secs(10), Instant::now());
        let (mut silent, mut queried) = (Silent::default(), Vec::new());
        for second in (0..300).step_by(10) {
            let now = start + Duration::from_secs(second);
            if silent.is_due(&resource, now) {
                silent.record(&resource, false, interval, now);
                queried.push(second);
            }
        }
        assert_eq!(queried, [0, 10, 30, 70, 130, 190, 250]);
        let now = start + Duration::from_secs(260);
        assert!(!silent.is_due(&resource, now));
        resource.metadata.resource_version = Some("2".to_owned());
        assert!(silent.is_due(&resource, now), "the resource has changed");
        silent.record(&resource, true, interval, now);
        assert!(silent.is_due(&resource, now));
    }
}
