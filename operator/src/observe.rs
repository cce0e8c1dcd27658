//! Reads backlog and totals of all resources from their programs at an interval, writes them to the status if
//! they changed, and drives autoscaling. This is separate from reconciling: numbers that change with every
//! event must not cause the operator to read every object.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::controller::build::names::MANAGER;
use crate::controller::plan::names_of;
use crate::controller::{Context, Wake};
use crate::crd::{EventAggregator, Totals};

/// How long a write may take, or the request for a reconcile.
const DEADLINE: Duration = Duration::from_secs(5);
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
        // The decisions are shared with the observers of other namespaces, so this one forgets only its own.
        let mut scaled = HashSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let resources = store.state();
            let readable = resources.iter().filter_map(|resource| resource.0.as_ref().ok());
            let active =
                readable.filter(|resource| !resource.spec.paused && resource.metadata.deletion_timestamp.is_none());
            let round = futures::stream::iter(active)
                .for_each_concurrent(MAX_CONCURRENT, |resource| self.observe(resource, &wake));
            tokio::select! {
                () = stop.cancelled() => return,
                () = round => {}
            }
            let scale = resources.iter().filter_map(|resource| {
                let resource = resource.0.as_ref().ok()?;
                resource.spec.aggregator.autoscaling.as_ref().and(resource.uid())
            });
            let scale = scale.collect();
            self.context.decisions.forget(scaled.difference(&scale));
            scaled = scale;
        }
    }

    async fn observe(&self, resource: &EventAggregator, wake: &Wake) {
        let (names, programs) = (names_of(resource), &self.context.programs);
        let (backlog, totals) = tokio::join!(programs.backlog(&names), programs.totals(&names));
        let observation = Observation { backlog, totals };
        self.scale(resource, backlog, wake).await;
        let status = resource.status.clone().unwrap_or_default();
        let before = Observation { backlog: status.backlog, totals: status.totals };
        if observation == before {
            return;
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
    }

    async fn scale(&self, resource: &EventAggregator, backlog: Option<i64>, wake: &Wake) {
        let (Some(scaling), Some(uid)) = (&resource.spec.aggregator.autoscaling, resource.uid()) else { return };
        // Before the first reconcile there is no number of replicas to start from.
        let Some(current) = resource.status.as_ref().and_then(|status| status.desired_replicas) else { return };
        let decisions = &self.context.decisions;
        let Some(decided) = decisions.observe(&uid, scaling, current, backlog, Instant::now()) else { return };
        tracing::info!(name = resource.name_any(), backlog, decided, "scaling the aggregators");
        let woken = ObjectRef::new(&resource.name_any()).within(&resource.namespace().unwrap_or_default());
        match tokio::time::timeout(DEADLINE, wake.send(woken)).await {
            Ok(Ok(())) => decisions.passed_on(&uid, decided),
            // The next observation tries again.
            Ok(Err(_)) | Err(_) => tracing::debug!(name = resource.name_any(), "cannot request a reconcile"),
        }
    }
}
