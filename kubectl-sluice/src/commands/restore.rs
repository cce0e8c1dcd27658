//! `restore`: asks the operator to replace what is stored by a backup.

use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::json;
use sluice_service::units::duration_within;

use super::change::{patch, until};
use super::{Out, write};
use crate::context::Context;
use crate::outcome::{Late, Outcome};
use crate::resource::Resource;

/// The word for the newest backup in the status.
const LAST: &str = "last";

/// Replaces all stored events by those of a backup; Redis then stores again what it still has of what the backup lacks
///
/// The operator stops the aggregators meanwhile. Publishers go on, and events wait in Redis. With --wait it exits with 3 if
/// the restore failed; what was stored before is then still there.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource
    pub name: String,
    /// Name of the backup, such as 20260102-030405-678, or `last` for the newest one in the status
    #[arg(long, value_name = "BACKUP")]
    pub backup: String,
    /// Text of the restore: the operator restores a backup once for each text. Without it, each command restores again
    #[arg(long, value_name = "TEXT")]
    pub id: Option<String>,
    /// Confirms that what is stored now is replaced
    #[arg(long)]
    pub yes: bool,
    /// Wait until the restore has ended
    #[arg(long)]
    pub wait: bool,
    /// Longest wait
    #[arg(long, default_value = "1h", value_parser = duration_within("1s", "168h"), value_name = "TIME")]
    pub timeout: Duration,
}

/// Asks for the restore, and waits for its end.
///
/// # Errors
/// Without `--yes`, if there is no such backup, if the resource cannot be changed, or if the restore does not end in time.
pub async fn run(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let resource = Resource::read(context, &args.name).await?;
    let backup = match args.backup.as_str() {
        LAST => {
            let last = resource.text("/status/backup/last").map(str::to_owned);
            last.context("its status names no backup: there is none yet (kubectl sluice backups)")?
        }
        name => name.to_owned(),
    };
    if !args.yes {
        bail!("a restore of {backup} replaces all events that are stored now: confirm it with --yes");
    }
    let id = args.id.clone().unwrap_or_else(|| Timestamp::now().strftime("kubectl-%Y%m%dT%H%M%S%.3fZ").to_string());
    let restore = json!({"backup": backup, "id": id});
    patch(context, &args.name, json!({"postgres": {"managed": {"restore": restore}}})).await?;
    write(out, &format!("eventaggregator {}/{} restores {backup} (id {id})\n", context.namespace, args.name))?;
    if !args.wait {
        return Ok(Outcome::Done);
    }
    let has_ended = |resource: &Resource| {
        let restored = resource.condition("Restored");
        restored.status == "True" || restored.reason == "RestoreFailed"
    };
    match until(context, &args.name, args.timeout, "Restored", has_ended).await? {
        Ok(resource) => {
            let restored = resource.condition("Restored");
            write(out, &format!("{}: {}\n", restored.reason, restored.message))?;
            Ok(if restored.status == "True" { Outcome::Done } else { Outcome::Negative })
        }
        Err(last) => {
            Err(Late(format!("the restore did not end within {:?}, and goes on: {last}", args.timeout)).into())
        }
    }
}
