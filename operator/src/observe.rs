//! Backlog and totals of all resources, asked of their own programs now and then and written to
//! their status where they changed; and autoscaling by them. Apart from reconciling: numbers that
//! change with every event must not make the operator look at every object.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::controller::build::names::{Component, MANAGER, Names};
use crate::controller::plan::names_of;
use crate::controller::{Context, Wake};
use crate::crd::{EventAggregator, Totals};
use crate::services::{AGGREGATOR_PORT, BACKLOG_METRIC, METRICS_PATH, PUBLISHER_PORT, STATS_PATH};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long an answer may be.
const MAX_ANSWER: usize = 4 << 20;
/// Resources asked at the same time.
const AT_ONCE: usize = 8;

type Guarded = DeserializeGuard<EventAggregator>;

/// What one resource's programs say. Nothing means unknown, which is not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observation {
    /// Events accepted and not stored yet.
    pub backlog: Option<i64>,
    /// What was counted.
    pub totals: Option<Totals>,
}

/// Asks the programs of resources.
pub struct Observer {
    context: Arc<Context>,
    http: reqwest::Client,
}

impl Observer {
    /// # Errors
    /// When there can be no HTTP client.
    pub fn new(context: Arc<Context>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
        Ok(Self { context, http })
    }

    /// Looks at all resources in `store` each `interval` until told to stop.
    pub async fn run(&self, store: Store<Guarded>, wake: Wake, interval: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let resources = store.state();
            let readable = resources.iter().filter_map(|resource| resource.0.as_ref().ok());
            let active = readable.filter(|resource| !resource.spec.paused && resource.metadata.deletion_timestamp.is_none());
            let round = futures::stream::iter(active).for_each_concurrent(AT_ONCE, |resource| self.look(resource, &wake));
            tokio::select! {
                () = stop.cancelled() => return,
                () = round => {}
            }
            let scaled = resources.iter().filter_map(|resource| {
                let resource = resource.0.as_ref().ok()?;
                resource.spec.aggregator.autoscaling.as_ref().and(resource.uid())
            });
            self.context.decisions.keep(&scaled.collect::<Vec<_>>());
        }
    }

    async fn look(&self, resource: &EventAggregator, wake: &Wake) {
        let names = names_of(resource);
        let (backlog, totals) = tokio::join!(self.backlog(&names), self.totals(&names));
        let observation = Observation { backlog, totals };
        self.scale(resource, backlog, wake);
        let status = resource.status.clone().unwrap_or_default();
        let before = Observation { backlog: status.backlog, totals: status.totals };
        if observation == before {
            return;
        }
        // Null removes what is unknown now.
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

    fn scale(&self, resource: &EventAggregator, backlog: Option<i64>, wake: &Wake) {
        let (Some(scaling), Some(uid)) = (&resource.spec.aggregator.autoscaling, resource.uid()) else { return };
        // Before the first reconcile there is nothing to start from.
        let Some(current) = resource.status.as_ref().and_then(|status| status.desired_replicas) else { return };
        if self.context.decisions.observe(&uid, scaling, current, backlog, Instant::now()) {
            let decided = self.context.decisions.get(&uid);
            tracing::info!(name = resource.name_any(), backlog, decided, "scaling the aggregators");
            // A full queue means that reconciling lags: the next look tries again.
            let woken = ObjectRef::new(&resource.name_any()).within(&resource.namespace().unwrap_or_default());
            if wake.try_send(woken).is_err() {
                tracing::debug!(name = resource.name_any(), "cannot wake the controller");
            }
        }
    }

    async fn backlog(&self, names: &Names) -> Option<i64> {
        let text = self.ask(names, Component::Publisher, PUBLISHER_PORT, METRICS_PATH).await?;
        gauge(&text, BACKLOG_METRIC)
    }

    async fn totals(&self, names: &Names) -> Option<Totals> {
        let text = self.ask(names, Component::Aggregator, AGGREGATOR_PORT, STATS_PATH).await?;
        match serde_json::from_str::<Stats>(&text) {
            Ok(stats) => Some(stats.into()),
            Err(error) => {
                tracing::debug!(name = names.name, %error, "the aggregators' statistics cannot be read");
                None
            }
        }
    }

    /// The answer of a part's Service; nothing when there is none, in time, or it is too long.
    async fn ask(&self, names: &Names, component: Component, port: i32, path: &str) -> Option<String> {
        let url = format!("http://{}:{port}{path}", names.host(&names.of(component)));
        let answer = async {
            let mut answer = self.http.get(&url).send().await?.error_for_status()?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                anyhow::ensure!(body.len() + chunk.len() <= MAX_ANSWER, "the answer is too long");
                body.extend_from_slice(&chunk);
            }
            anyhow::Ok(String::from_utf8(body)?)
        };
        answer.await.inspect_err(|error| tracing::debug!(url, %error, "no answer")).ok()
    }
}

/// A gauge in Prometheus' text format; nothing when it is absent or not a number.
fn gauge(text: &str, name: &str) -> Option<i64> {
    let value = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = match rest.strip_prefix('{') {
            Some(labels) => labels.split_once('}')?.1,
            None => rest,
        };
        rest.strip_prefix(' ')?.split(' ').next()
    })?;
    let value: f64 = value.parse().ok()?;
    // Counts of events are far below where floating point would round.
    (value.is_finite() && value >= 0.0).then_some(value.round() as i64)
}

/// What is used of the aggregators' `/stats`.
#[derive(Debug, Deserialize)]
struct Stats {
    received: i64,
    unique_processed: i64,
    duplicate_dropped: i64,
    #[serde(default)]
    conflicts: i64,
    #[serde(default)]
    dead_lettered: i64,
}

impl From<Stats> for Totals {
    fn from(stats: Stats) -> Self {
        Self {
            received: stats.received,
            unique_processed: stats.unique_processed,
            duplicate_dropped: stats.duplicate_dropped,
            conflicts: stats.conflicts,
            dead_lettered: stats.dead_lettered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_that_is_absent_or_no_number_is_unknown_and_not_zero() {
        let text = "# TYPE sluice_publish_backlog_events gauge\nsluice_publish_backlog_events 12\nother 3\n";
        assert_eq!(gauge(text, "sluice_publish_backlog_events"), Some(12));
        assert_eq!(gauge(text, "other"), Some(3));
        assert_eq!(gauge(text, "missing"), None);
        assert_eq!(gauge("a NaN\n", "a"), None);
        assert_eq!(gauge("a{stream=\"0\"} 1.2e3\n", "a"), Some(1_200));
        assert_eq!(gauge("ab 1\n", "a"), None);
    }
}
