//! Last step: writes the status if it changed, and publishes an event about the change.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::build::names::MANAGER;
use super::context::Context;
use super::error::{Error, Result};
use super::reason::Reason;
use crate::crd::{ConditionType, EventAggregator, EventAggregatorStatus};

/// How long a write may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Fields that `observe` refreshes, independently of reconciling.
const OBSERVED: [&str; 2] = ["backlog", "totals"];

/// Writes `status` if it differs from the current status of `resource`.
///
/// # Errors
/// [`Error::TimedOut`] or [`Error::Api`].
pub async fn write_status(context: &Context, resource: &EventAggregator, status: &EventAggregatorStatus) -> Result<()> {
    let old = resource.status.clone().unwrap_or_default();
    let Some(patch) = patch(&old, status) else { return Ok(()) };
    let name = resource.name_any();
    let api: Api<EventAggregator> = Api::namespaced(context.client.clone(), &resource.namespace().unwrap_or_default());
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(patch);
    let written = timeout(DEADLINE, api.patch_status(&name, &params, &patch)).await;
    let written = written.map_err(|_| Error::TimedOut(DEADLINE))?.map_err(Error::api("write the status"))?;
    context.last_status.remember(written);
    publish_event(context, resource, &old, status).await;
    Ok(())
}

/// Returns the merge patch that turns `old` into `new`, without the fields that `observe` refreshes.
fn patch(old: &EventAggregatorStatus, new: &EventAggregatorStatus) -> Option<Value> {
    let (old, new) = (fields(old), fields(new));
    let names = old.keys().chain(new.keys()).filter(|name| !OBSERVED.contains(&name.as_str()));
    let changed: Map<_, _> = names
        .filter(|name| old.get(*name) != new.get(*name))
        // Null removes a field.
        .map(|name| (name.clone(), new.get(name).cloned().unwrap_or(Value::Null)))
        .collect();
    (!changed.is_empty()).then(|| json!({ "status": changed }))
}

fn fields(status: &EventAggregatorStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Publishes an event if the condition Ready has another status or reason than before. A failure to
/// publish is logged and does not fail the reconcile.
async fn publish_event(
    context: &Context,
    resource: &EventAggregator,
    old: &EventAggregatorStatus,
    new: &EventAggregatorStatus,
) {
    let Some(ready) = new.condition(ConditionType::Ready) else { return };
    let before = old.condition(ConditionType::Ready);
    if before.is_some_and(|before| before.status == ready.status && before.reason == ready.reason) {
        return;
    }
    let is_normal = Reason::from_name(&ready.reason).is_some_and(Reason::is_normal);
    let event = Event {
        type_: if is_normal { EventType::Normal } else { EventType::Warning },
        reason: ready.reason.clone(),
        // The API server accepts at most 1024 bytes; most messages are ASCII.
        note: Some(ready.message.chars().take(1_000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let resource = resource.object_ref(&());
    match timeout(DEADLINE, context.recorder.publish(&event, &resource)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot publish an event"),
        Err(_) => tracing::warn!("cannot publish an event in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::Totals;

    #[test]
    fn only_changed_fields_are_written_and_observed_fields_are_not() {
        let old = EventAggregatorStatus {
            replicas: Some(1),
            endpoint: Some("x".to_owned()),
            backlog: Some(7),
            ..EventAggregatorStatus::default()
        };
        let mut new = EventAggregatorStatus { backlog: None, totals: Some(Totals::default()), ..old.clone() };
        assert_eq!(patch(&old, &new), None);
        new.replicas = Some(2);
        new.endpoint = None;
        assert_eq!(patch(&old, &new), Some(json!({"status": {"replicas": 2, "endpoint": null}})));
    }
}
