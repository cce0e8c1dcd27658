//! What is known about a resource.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use serde::Serialize;
use serde_json::Value;
use sluice_operator::controller::pod_problems;

use crate::commands::stats::{self, Stats};
use crate::context::Context;
use crate::pods::{self, COMPONENTS};
use crate::programs::Programs;
use crate::resource::{Condition, Resource};
use crate::table::one_line;

/// The most events about a resource that are looked at.
const MAX_EVENTS: u32 = 500;

/// All of it, in the order in which it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub namespace: String,
    pub name: String,
    pub created: Option<Timestamp>,
    pub being_deleted: bool,
    pub ready: Condition,
    /// The operator has not seen the last change of the spec, so that everything else is about an older one.
    pub change_unseen: bool,
    pub paused: bool,
    pub hibernated: bool,
    pub endpoint: Option<String>,
    pub replicas: Option<i64>,
    pub desired_replicas: Option<i64>,
    pub autoscaling: Option<Value>,
    /// By component: pods that are ready, and all.
    pub pods: BTreeMap<&'static str, [usize; 2]>,
    pub backlog: Option<i64>,
    pub volumes: Option<Value>,
    pub deletion_policy: Option<String>,
    /// All conditions; those that are not as they should be are shown.
    pub conditions: Vec<Condition>,
    pub pod_problems: Vec<String>,
    pub statistics: Statistics,
    pub events: Vec<About>,
}

/// The counts of all events.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statistics {
    pub totals: Option<Value>,
    /// In words, for people.
    #[serde(skip)]
    pub text: Option<String>,
    /// Events per second, over the interval.
    pub rates: Option<Rates>,
    /// Why the programs did not tell. The totals are then those of the status, if it has some.
    pub unknown_because: Option<String>,
}

/// Events per second.
#[derive(Debug, Serialize)]
pub(super) struct Rates {
    pub received: f64,
    pub stored: f64,
    pub duplicates: f64,
    /// Seconds over which they were measured.
    pub seconds: f64,
}

/// An event about the resource.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    pub last: Option<Timestamp>,
    pub count: i64,
    #[serde(rename = "type")]
    pub kind: String,
    pub reason: String,
    pub message: String,
}

/// A row of the table of all resources.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub namespace: String,
    pub name: String,
    pub ready: Condition,
    pub replicas: Option<i64>,
    pub backlog: Option<i64>,
    pub created: Option<Timestamp>,
}

impl Row {
    pub(super) fn of(resource: &Resource) -> Self {
        Self {
            namespace: resource.namespace(),
            name: resource.name(),
            ready: resource.condition("Ready"),
            replicas: resource.number("/status/replicas"),
            backlog: resource.number("/status/backlog"),
            created: resource.created(),
        }
    }
}

impl Report {
    /// Reads all of it. What cannot be read is unknown, except for the pods.
    pub(super) async fn make(
        context: &Context,
        resource: &Resource,
        interval: Duration,
        max_events: usize,
    ) -> anyhow::Result<Self> {
        let name = resource.name();
        let pods = pods::of_resource(context, &context.names(&name)).await?;
        let (statistics, events) = tokio::join!(statistics(context, resource, interval), events(context, resource));
        let mut events = events.unwrap_or_else(|error| vec![About::unreadable(&error)]);
        events.sort_by_key(|about| Reverse(about.last));
        events.truncate(max_events);
        let counted = COMPONENTS.map(|component| {
            let ours = pods.iter().filter(|pod| pods::is_of(pod, component));
            (component.as_str(), [ours.clone().filter(|pod| pods::is_ready(pod)).count(), ours.count()])
        });
        Ok(Self {
            namespace: resource.namespace(),
            created: resource.created(),
            being_deleted: resource.is_being_deleted(),
            ready: resource.condition("Ready"),
            change_unseen: resource.is_unseen(),
            paused: resource.flag("/spec/paused"),
            hibernated: resource.flag("/spec/hibernated"),
            endpoint: resource.text("/status/endpoint").map(str::to_owned),
            replicas: resource.number("/status/replicas"),
            desired_replicas: resource.number("/status/desiredReplicas"),
            autoscaling: resource.at("/spec/aggregator/autoscaling").cloned(),
            pods: counted.into_iter().filter(|(_, [_, all])| *all > 0).collect(),
            backlog: resource.number("/status/backlog"),
            volumes: resource.at("/status/volumes").cloned(),
            deletion_policy: resource.text("/status/deletionPolicy").map(str::to_owned),
            conditions: resource.conditions(),
            pod_problems: problems(&pods),
            statistics,
            events,
            name,
        })
    }
}

impl About {
    fn of(event: Event) -> Self {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
        let last = series
            .or(event.last_timestamp.map(|time| time.0))
            .or(event.event_time.map(|time| time.0))
            .or(event.metadata.creation_timestamp.map(|time| time.0));
        let count = event.series.and_then(|series| series.count).or(event.count).unwrap_or(1);
        Self {
            last,
            count: i64::from(count),
            kind: event.type_.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
        }
    }

    fn unreadable(error: &anyhow::Error) -> Self {
        let message = format!("the events about the resource cannot be read: {error:#}");
        Self { last: None, count: 1, kind: "Unknown".to_owned(), reason: String::new(), message }
    }
}

/// Returns what is wrong with the pods, by the rules of the operator.
fn problems(pods: &[Pod]) -> Vec<String> {
    let now = Timestamp::now();
    let of_pod = |pod: &Pod| {
        COMPONENTS.iter().find_map(|component| pod_problems::of(std::slice::from_ref(pod), *component, now))
    };
    pods.iter()
        .filter_map(|pod| Some((pod.name_any(), of_pod(pod)?)))
        .map(|(pod, problem)| {
            let (reason, message) = (problem.reason.as_str(), one_line(&problem.message));
            if message.contains(&pod) { format!("{reason}: {message}") } else { format!("{reason}: {pod}: {message}") }
        })
        .collect()
}

async fn events(context: &Context, resource: &Resource) -> anyhow::Result<Vec<About>> {
    let (name, kind) = (resource.name(), "EventAggregator");
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name}");
    let list = ListParams::default().fields(&fields).limit(MAX_EVENTS);
    let api = context.api::<Event>()?;
    let found = context.answer("events", api.list(&list)).await?;
    let ours = found.items.into_iter().filter(|event| {
        event.involved_object.name.as_ref() == Some(&name) && event.involved_object.kind.as_deref() == Some(kind)
    });
    Ok(ours.map(About::of).collect())
}

/// Asks the programs twice, for the rates.
async fn statistics(context: &Context, resource: &Resource, interval: Duration) -> Statistics {
    let asked = async {
        let mut programs = Programs::of(context, &resource.name()).await?;
        let first: Stats = stats::read(&mut programs, 0).await?;
        if interval.is_zero() {
            return anyhow::Ok((first, None));
        }
        let since = tokio::time::Instant::now();
        tokio::time::sleep(interval).await;
        let second: Stats = stats::read(&mut programs, 0).await?;
        let seconds = since.elapsed().as_secs_f64();
        let rate = |of: fn(&Stats) -> u64| of(&second).saturating_sub(of(&first)) as f64 / seconds;
        let rates = Rates {
            received: rate(|stats| stats.total.received),
            stored: rate(|stats| stats.total.unique_processed),
            duplicates: rate(|stats| stats.total.duplicate_dropped),
            seconds,
        };
        Ok((second, Some(rates)))
    };
    match asked.await {
        Ok((stats, rates)) => {
            let mut totals = serde_json::to_value(stats.total).unwrap_or_default();
            totals["dead_lettered"] = stats.dead_lettered.into();
            totals["backlog"] = stats.backlog.into();
            let text = Some(stats::totals(&stats));
            Statistics { totals: Some(totals), text, rates, unknown_because: None }
        }
        Err(error) => {
            let totals = resource.at("/status/totals");
            let number = |name: &str| totals.and_then(|totals| totals[name].as_u64()).unwrap_or_default();
            let last = totals.map(|_| Stats {
                total: stats::Counts {
                    received: number("received"),
                    unique_processed: number("uniqueProcessed"),
                    duplicate_dropped: number("duplicateDropped"),
                    conflicts: number("conflicts"),
                },
                dead_lettered: number("deadLettered"),
                backlog: resource.number("/status/backlog").and_then(|backlog| u64::try_from(backlog).ok()),
                ..Stats::default()
            });
            Statistics {
                totals: totals.cloned(),
                text: last.as_ref().map(stats::totals),
                rates: None,
                unknown_because: Some(format!("{error:#}")),
            }
        }
    }
}
