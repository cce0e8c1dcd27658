//! Reconciles one resource: runs the steps in order, writes the status, and decides when to run them
//! again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::context::Context;
use super::data::Data;
use super::error::{Error, Result};
use super::{
    apply, auth, backup, build, data, fetch, retention, secrets, status, tls, upgrade, validate, write_status,
};
use crate::crd::{ConditionType, DeletionPolicy, EventAggregator, EventAggregatorStatus};

/// How soon a resource that is not ready is reconciled again.
const UNREADY_RESYNC: Duration = Duration::from_secs(30);
/// The same while PostgreSQL has not the version that is asked for: events may be waiting for it.
const UPGRADE_RESYNC: Duration = Duration::from_secs(5);
/// How many times a resource that nothing has happened to is left alone at `resync`. After that it is reconciled although
/// the watches tell of no change.
const UNCHANGED_TIMES: u32 = 6;
/// How long one reconcile may take. It is several times what a slow API server needs for some fifty
/// requests, and bounds how long one resource can hold one of the concurrent reconciles.
const DEADLINE: Duration = Duration::from_secs(120);

/// Brings the cluster into the state that the resource describes, and writes the state of the cluster
/// to the resource's status.
///
/// # Errors
/// Any [`Error`]. It has already been written to the status, where that was possible.
pub async fn reconcile(resource: Arc<DeserializeGuard<EventAggregator>>, context: Arc<Context>) -> Result<Action> {
    let began = Instant::now();
    let result = match &resource.0 {
        Ok(resource) => reconcile_readable(resource, &context).await,
        Err(unreadable) => Err(Error::Unparsable(unreadable.error.clone())),
    };
    let label = result.as_ref().map_or_else(|error| error.reason().as_str(), |_| "Done");
    metrics::counter!(crate::metrics::RECONCILES.name, "result" => label).increment(1);
    metrics::histogram!(crate::metrics::RECONCILE_SECONDS.name).record(began.elapsed().as_secs_f64());
    result
}

async fn reconcile_readable(resource: &EventAggregator, context: &Context) -> Result<Action> {
    if resource.metadata.deletion_timestamp.is_some() {
        // The garbage collector deletes all objects that the resource owns. There is no finalizer.
        return Ok(Action::await_change());
    }
    let resource = context.last_status.newest(resource);
    let resource = resource.as_ref();
    let old = resource.status.clone().unwrap_or_default();
    let mut policy = old.deletion_policy;
    // A request without a response must not occupy one of the concurrent reconciles for ever.
    // The future is large, and the stack of a thread is not.
    let steps = tokio::time::timeout(DEADLINE, Box::pin(steps(resource, context, &mut policy))).await;
    let steps = steps.unwrap_or(Err(Error::TimedOut(DEADLINE)));
    let ready = match steps.map_err(|error| error.of_secrets_with(context.defaults.secret_selector.as_deref())) {
        Ok(mut status) => {
            status.deletion_policy = policy;
            write_status::write_status(context, resource, &status).await?;
            status.condition(ConditionType::Ready).is_some_and(|ready| ready.status == "True")
        }
        Err(error) => {
            let generation = resource.metadata.generation.unwrap_or_default();
            let mut status = status::of_error(&error, generation, &old, Timestamp::now());
            status.deletion_policy = policy;
            if let Err(unwritten) = write_status::write_status(context, resource, &status).await {
                tracing::debug!(error = %unwritten, "cannot write the error to the status");
            }
            return Err(error);
        }
    };
    context.succeeded(&resource.uid().unwrap_or_default());
    let is_upgraded = {
        let status = resource.status.as_ref().and_then(|status| status.postgres.as_ref());
        status.is_none_or(|postgres| postgres.version == resource.spec.postgres.managed.version)
    };
    if ready {
        let key = (resource.namespace().unwrap_or_default(), resource.name_any());
        // That a backup is overdue shows by the time alone.
        let times = if resource.spec.postgres.managed.backup.is_some() { 1 } else { UNCHANGED_TIMES };
        context.changes.settle(&key, Instant::now() + context.resync * times);
    }
    // A program can become ready, or report another problem, without any change of an object.
    let next = if ready || resource.spec.paused {
        context.resync
    } else if is_upgraded {
        context.resync.min(UNREADY_RESYNC)
    } else {
        context.resync.min(UPGRADE_RESYNC)
    };
    Ok(Action::requeue(with_jitter(next)))
}

/// Runs all steps. `policy` is the deletion policy that is in force. It is set as soon as it is known, because
/// a later step can fail.
async fn steps(
    resource: &EventAggregator,
    context: &Context,
    policy: &mut Option<DeletionPolicy>,
) -> Result<EventAggregatorStatus> {
    let mut data = data::fetch(context, resource).await?;
    let enforced = retention::enforce(&context.client, resource, &mut data).await;
    if let Ok(enforced) = enforced {
        *policy = enforced;
    }
    let status = if resource.spec.paused {
        let old = resource.status.clone().unwrap_or_default();
        status::of_paused(resource.metadata.generation.unwrap_or_default(), &old, Timestamp::now())
    } else {
        bring_about(resource, context, data).await?
    };
    // Everything else has been done although the policy could not be enforced.
    enforced.map(|_| status)
}

/// Runs the steps that a paused resource does without.
async fn bring_about(resource: &EventAggregator, context: &Context, data: Data) -> Result<EventAggregatorStatus> {
    let client = &context.client;
    let uid = resource.uid().unwrap_or_default();
    let live = Box::pin(fetch::fetch(context, resource, data)).await?;
    let plan = validate::validate(resource, &live, &context.defaults, context.decisions.get(&uid))?;
    upgrade::withdraw(client, &plan, &live).await?;
    let checksums = secrets::ensure(client, &plan, &live).await?;
    let now = Timestamp::now();
    let certificates = tls::ensure::ensure(client, &plan, &live, now).await?;
    let token = auth::tokens::ensure(client, &plan, &live).await?;
    let desired = build::build(&plan, &checksums);
    let old = resource.status.clone().unwrap_or_default();
    let asked_for = old.observed_generation != resource.metadata.generation;
    let turns = (&context.server_restarts, asked_for);
    let applied = Box::pin(apply::apply(client, &plan, &live, desired, turns)).await?;
    backup::begin(client, &plan, &live).await?;
    upgrade::advance(client, &plan, &live, &applied).await?;
    context.programs.authenticate(&plan.names, token);
    context.programs.trust(&plan.names, certificates.as_ref().map(|all| &all.aggregators));
    let mut status = status::of_applied(&plan, &live, &applied, &old, now);
    tls::report::report(certificates.as_ref(), &mut status, now);
    Ok(status)
}

/// Returns when to look again at a resource that nothing has happened to.
pub fn unchanged(context: &Context) -> Action {
    metrics::counter!(crate::metrics::RECONCILES.name, "result" => "Unchanged").increment(1);
    Action::requeue(with_jitter(context.resync))
}

/// Decides when to try again after an error. An error that a retry cannot resolve waits until
/// something changes.
pub fn after_failure(resource: Arc<DeserializeGuard<EventAggregator>>, error: &Error, context: Arc<Context>) -> Action {
    let (name, namespace) = (resource.name_any(), resource.namespace().unwrap_or_default());
    if error.is_not_found() {
        tracing::debug!(name, namespace, %error, "the resource was deleted during the reconcile");
        return Action::requeue(context.failed(&resource.uid().unwrap_or_default(), Instant::now()));
    }
    tracing::warn!(name, namespace, reason = %error.reason(), %error, "cannot reconcile");
    if error.is_retryable() {
        Action::requeue(context.failed(&resource.uid().unwrap_or_default(), Instant::now()))
    } else {
        Action::await_change()
    }
}

/// Returns the interval, changed at random by up to 10%, so that not all resources are reconciled at
/// the same time.
fn with_jitter(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}
