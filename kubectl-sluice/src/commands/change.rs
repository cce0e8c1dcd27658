//! `pause`, `resume`, `hibernate` and `wake`: set a flag of the spec.

use std::time::Duration;

use kube::api::{Patch, PatchParams, ValidationDirective};
use serde_json::json;
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
    let api = context.resources()?;
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        // A definition of an older version lacks the field: without this it would be dropped, with a success.
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    // A field that is false is one that is not set.
    let value = if value { json!(true) } else { json!(null) };
    let patch = Patch::Merge(json!({"spec": {field: value}}));
    context.answer("cannot change it", api.patch(&args.name, &parameters, &patch)).await?;
    if args.wait {
        wait(context, args, change).await?;
    }
    write(out, &format!("eventaggregator {}/{} {}\n", context.namespace, args.name, change.done()))?;
    Ok(Outcome::Done)
}

async fn wait(context: &Context, args: &Args, change: Change) -> anyhow::Result<()> {
    let mut last = String::new();
    let complete = async {
        loop {
            let resource = Resource::read(context, &args.name).await?;
            if !resource.is_unseen() && change.is_complete(&resource) {
                return anyhow::Ok(());
            }
            let Condition { status, reason, message, .. } = resource.condition("Ready");
            last = format!("Ready is {status} ({reason}): {message}");
            tokio::time::sleep(LOOK).await;
        }
    };
    if let Ok(complete) = tokio::time::timeout(args.timeout, complete).await {
        return complete;
    }
    let (done, within) = (change.done(), args.timeout);
    Err(Late(format!("the change is stored, but it is not {done} within {within:?}: {last}")).into())
}
