//! `status`: what a person on call needs to see at a glance.

mod report;
mod text;

use std::time::Duration;

use anyhow::bail;
use kube::api::ListParams;
use sluice_service::units::duration_within;

use super::{Out, write, write_json};
use crate::context::Context;
use crate::global::{Form, Output};
use crate::outcome::Outcome;
use crate::resource::Resource;
use report::Report;

/// The number of resources that are read with a request.
const PAGE: u32 = 200;

/// Shows whether a resource is well and what is wrong with it, or a table of all
///
/// Shows the conditions that are not as they should be, the pods with problems, the statistics and rates, and the latest
/// events about the resource. Exits with 3 if the resource is not Ready, and with 4 if that is not known, as for one that
/// is paused.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource [default: all of the namespace]
    pub name: Option<String>,
    /// All resources of all namespaces
    #[arg(long, short = 'A', conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Time over which the rates are measured; 0s leaves them out
    #[arg(long, default_value = "2s", value_parser = duration_within("0s", "10m"), value_name = "TIME")]
    pub interval: Duration,
    /// Most events about the resource to show
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub events: usize,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub output: Output,
}

/// Runs the command.
///
/// # Errors
/// If the resource cannot be read.
pub async fn run(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let Some(name) = &args.name else { return all(context, args, out).await };
    let resource = Resource::read(context, name).await?;
    let report = Report::make(context, &resource, args.interval, args.events).await?;
    match args.output.form {
        Form::Json => write_json(out, &report)?,
        Form::Text => write(out, &text::of(&report, jiff::Timestamp::now()))?,
    }
    Ok(match report.ready.status.as_str() {
        "True" if !report.change_unseen => Outcome::Done,
        "False" => Outcome::Negative,
        _ => Outcome::Unknown,
    })
}

/// Shows the table of all resources.
async fn all(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let api = if args.all_namespaces { context.all_resources()? } else { context.resources()? };
    let mut list = ListParams::default().limit(PAGE);
    let mut resources = Vec::new();
    loop {
        let page = context.answer("cannot list resources EventAggregator", api.list(&list)).await?;
        resources.extend(page.items.into_iter().map(Resource::of));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => list = list.continue_token(&token),
            None => break,
        }
    }
    if resources.is_empty() && args.output.form == Form::Text {
        match args.all_namespaces {
            true => bail!("there are no resources EventAggregator"),
            false => {
                bail!("there are no resources EventAggregator in namespace {} (-A: all namespaces)", context.namespace)
            }
        }
    }
    match args.output.form {
        Form::Json => write_json(out, &resources.iter().map(report::Row::of).collect::<Vec<_>>())?,
        Form::Text => write(out, &text::of_all(&resources, args.all_namespaces, jiff::Timestamp::now()))?,
    }
    Ok(Outcome::Done)
}
