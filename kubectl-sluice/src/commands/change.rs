//! `pause`, `resume`, `hibernate` and `wake`: set a flag of the spec.

use std::time::Duration;

use kube::api::{Patch, PatchParams, ValidationDirective};
use serde_json::{Value, json};
use sluice_service::units::duration_within;

use super::{Out, write};
use crate::context::Context;
use crate::outcome::{Late, Outcome};
use crate::resource::{Condition, Resource};

/// How often the status is read while it is waited for.
const LOOK: Duration = Duration::from_millis(500);
/// The field manager of the plugin's changes.
const MANAGER: &str = "kubectl-sluice";

/// The resource, and whether to wait.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource
    pub name: String,
    /// Wait until the operator has seen the change and reports the new state
    #[arg(long)]
    pub wait: bool,
    /// Longest wait
    #[arg(long, default_value = "5m", value_parser = duration_within("1s", "24h"), value_name = "TIME")]
    pub timeout: Duration,
}

/// A change of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The operator changes nothing any more.
    Pause,
    /// It does so again.
    Resume,
    /// The pods end, and the data stays.
    Hibernate,
    /// They start again.
    Wake,
}

impl Change {
    fn field(self) -> (&'static str, bool) {
        match self {
            Self::Pause => ("paused", true),
            Self::Resume => ("paused", false),
            Self::Hibernate => ("hibernated", true),
            Self::Wake => ("hibernated", false),
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Hibernate => "hibernated",
            Self::Wake => "woken",
        }
    }

    /// Whether the status says that the change is complete.
    fn is_complete(self, resource: &Resource) -> bool {
        let ready = resource.condition("Ready");
        match self {
            Self::Pause => ready.reason == "Paused",
            Self::Hibernate => ready.reason == "Hibernated",
            Self::Resume | Self::Wake => ready.status == "True",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If the resource cannot be changed, or is not in the new state in time.
pub async fn run(context: &Context, args: &Args, change: Change, out: Out<'_>) -> anyhow::Result<Outcome> {
    let (field, value) = change.field();
    // A field that is false is one that is not set.
    let value = if value { json!(true) } else { json!(null) };
    patch(context, &args.name, json!({field: value})).await?;
    if args.wait
        && let Err(last) =
            until(context, &args.name, args.timeout, "Ready", |resource| change.is_complete(resource)).await?
    {
        let (done, within) = (change.done(), args.timeout);
        return Err(Late(format!("the change is stored, but it is not {done} within {within:?}: {last}")).into());
    }
    write(out, &format!("eventaggregator {}/{} {}\n", context.namespace, args.name, change.done()))?;
    Ok(Outcome::Done)
}

/// Changes the spec of a resource.
///
/// # Errors
/// If it is refused.
pub(super) async fn patch(context: &Context, name: &str, spec: Value) -> anyhow::Result<()> {
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        // A definition of an older version lacks the field: without this it would be dropped, with a success.
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({ "spec": spec }));
    context.answer("cannot change it", context.resources()?.patch(name, &parameters, &patch)).await?;
    Ok(())
}

/// Waits until the operator has seen the change and this holds for the resource. Returns the resource, or after `timeout`
/// what its `condition` was last.
///
/// # Errors
/// If the resource cannot be read.
pub(super) async fn until(
    context: &Context,
    name: &str,
    timeout: Duration,
    condition: &str,
    is_complete: impl Fn(&Resource) -> bool,
) -> anyhow::Result<Result<Resource, String>> {
    let mut last = String::new();
    let complete = async {
        loop {
            let resource = Resource::read(context, name).await?;
            if !resource.is_unseen() && is_complete(&resource) {
                return anyhow::Ok(resource);
            }
            let Condition { status, reason, message, .. } = resource.condition(condition);
            last = format!("{condition} is {status} ({reason}): {message}");
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(timeout, complete).await {
        Ok(resource) => resource.map(Ok),
        Err(_) => Ok(Err(last)),
    }
}
