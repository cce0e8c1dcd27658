//! Reconciling one resource: fetch → validate → build → apply → status. Each step is a file, and
//! each takes what the one before it made, so that none can be left out.

pub mod apply;
pub mod build;
mod context;
mod drift;
pub mod error;
pub mod fetch;
pub mod plan;
mod pod_problems;
pub mod rollout;
pub mod secrets;
pub mod status;
pub mod validate;
mod volumes;
mod watch;
mod write_status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

pub use context::Context;
use error::{Error, Result};
pub use watch::{Wake, watch};

use crate::crd::{ConditionType, EventAggregator, EventAggregatorStatus};

/// How soon to look again at what is not ready.
const UNREADY: Duration = Duration::from_secs(30);
/// How long one look may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// Makes the cluster as the resource says, and the resource's status as the cluster is.
///
/// # Errors
/// Any [`Error`]; it was written to the status already, where that was possible.
pub async fn reconcile(resource: Arc<DeserializeGuard<EventAggregator>>, context: Arc<Context>) -> Result<Action> {
    let began = Instant::now();
    let result = match &resource.0 {
        Ok(resource) => reconcile_readable(resource, &context).await,
        Err(unreadable) => Err(Error::Unparsable(unreadable.error.clone())),
    };
    let label = result.as_ref().map_or_else(Error::category, |_| "Done");
    metrics::counter!(crate::metrics::RECONCILES.name, "result" => label).increment(1);
    metrics::histogram!(crate::metrics::RECONCILE_SECONDS.name).record(began.elapsed().as_secs_f64());
    result
}

async fn reconcile_readable(resource: &EventAggregator, context: &Context) -> Result<Action> {
    if resource.metadata.deletion_timestamp.is_some() {
        // Everything goes with its owner; there is nothing to do first.
        return Ok(Action::await_change());
    }
    let old = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation.unwrap_or_default();
    let status = if resource.spec.paused {
        Ok(status::of_paused(generation, &old, Timestamp::now()))
    } else {
        // A request whose answer never comes must not hold its place for ever.
        let steps = tokio::time::timeout(DEADLINE, steps(resource, context)).await;
        steps.unwrap_or(Err(Error::TimedOut(DEADLINE)))
    };
    let ready = match status {
        Ok(status) => {
            write_status::write_status(context, resource, &status).await?;
            status.condition(ConditionType::Ready).is_some_and(|ready| ready.status == "True")
        }
        Err(error) => {
            let status = status::of_error(&error, generation, &old, Timestamp::now());
            if let Err(unwritten) = write_status::write_status(context, resource, &status).await {
                tracing::debug!(error = %unwritten, "cannot write what went wrong");
            }
            return Err(error);
        }
    };
    context.succeeded(&resource.uid().unwrap_or_default());
    // What a program lacks can change without any object changing.
    let next = if ready || resource.spec.paused { context.resync } else { context.resync.min(UNREADY) };
    Ok(Action::requeue(spread(next)))
}

async fn steps(resource: &EventAggregator, context: &Context) -> Result<EventAggregatorStatus> {
    let client = &context.client;
    let uid = resource.uid().unwrap_or_default();
    let live = fetch::fetch(client, &context.programs, resource).await?;
    let plan = validate::validate(resource, &live, &context.defaults, context.decisions.get(&uid))?;
    let checksums = secrets::ensure(client, &plan, &live).await?;
    let desired = build::build(&plan, &checksums);
    let applied = apply::apply(client, &plan, &live, desired).await?;
    let old = resource.status.clone().unwrap_or_default();
    Ok(status::of_applied(&plan, &live, &applied, &old, Timestamp::now()))
}

/// When to try again. What trying cannot help waits until something changes.
pub fn after_failure(resource: Arc<DeserializeGuard<EventAggregator>>, error: &Error, context: Arc<Context>) -> Action {
    let (name, namespace) = (resource.name_any(), resource.namespace().unwrap_or_default());
    if error.is_not_found() {
        tracing::debug!(name, namespace, %error, "it went away meanwhile");
        return Action::requeue(context.failed(&resource.uid().unwrap_or_default()));
    }
    tracing::warn!(name, namespace, category = error.category(), %error, "cannot reconcile");
    if error.is_retryable() {
        Action::requeue(context.failed(&resource.uid().unwrap_or_default()))
    } else {
        Action::await_change()
    }
}

/// Not all resources at the same moment.
fn spread(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}
