//! The command line.

use anyhow::Context as _;
use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::change::{self, Change};
use crate::commands::{Out, audit, backup, completions, dead_letters, events, logs, publish, restore, stats, status};
use crate::context::Context;
use crate::global::Global;
use crate::outcome::Outcome;

/// Shows and operates resources EventAggregator.
///
/// The programs of a resource are reached through the API server and one of its pods, as `kubectl port-forward` does, so
/// that this works from outside of the cluster and with NetworkPolicies.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-sluice",
    bin_name = "kubectl sluice",
    version,
    after_help = "Exit codes: 0 it is done, or all is well; 1 it failed; 2 wrong usage; 3 what was looked at is not as \
        it should be (status: not Ready; audit: numbers differ); 4 it is not known; 5 a wait reached its deadline."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The options of all commands.
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub global: Global,
}

/// A command.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the doc comments of the arguments are the help")]
pub enum Command {
    Status(status::Args),
    Publish(publish::Args),
    Stats(stats::Args),
    Events(events::Args),
    DeadLetters(dead_letters::Args),
    Audit(audit::Args),
    Logs(logs::Args),
    /// Has the operator leave the resource alone
    Pause(change::Args),
    /// Has the operator look after the resource again, after pause
    Resume(change::Args),
    /// Ends all pods of the resource; its data stays
    Hibernate(change::Args),
    /// Starts the pods of a hibernated resource again
    Wake(change::Args),
    Backup(backup::Args),
    Backups(backup::ListArgs),
    Restore(restore::Args),
    Completions(completions::Args),
    #[command(name = "__complete", hide = true)]
    Complete(completions::Words),
}

/// Runs a command.
///
/// # Errors
/// If it cannot do what it was asked; the message names the resource.
pub async fn run(command: Command, context: &Context, out: Out<'_>) -> anyhow::Result<Outcome> {
    let name = command.name().map(str::to_owned);
    let done = match command {
        Command::Status(args) => status::run(context, &args, out).await,
        Command::Publish(args) => publish::run(context, &args, out).await,
        Command::Stats(args) => stats::run(context, &args, out).await,
        Command::Events(args) => events::run(context, &args, out).await,
        Command::DeadLetters(args) => dead_letters::run(context, &args, out).await,
        Command::Audit(args) => audit::run(context, &args, out).await,
        Command::Logs(args) => logs::run(context, &args, out).await,
        Command::Pause(args) => change::run(context, &args, Change::Pause, out).await,
        Command::Resume(args) => change::run(context, &args, Change::Resume, out).await,
        Command::Hibernate(args) => change::run(context, &args, Change::Hibernate, out).await,
        Command::Wake(args) => change::run(context, &args, Change::Wake, out).await,
        Command::Backup(args) => backup::run(context, &args, out).await,
        Command::Backups(args) => backup::list(context, &args, out).await,
        Command::Restore(args) => restore::run(context, &args, out).await,
        Command::Completions(args) => completions::script(&mut Cli::command(), &args, out),
        Command::Complete(words) => completions::complete(&definition(), &words, context, out).await,
    };
    match name {
        Some(name) => done.with_context(|| format!("eventaggregator {}/{name}", context.namespace)),
        None => done,
    }
}

/// Returns the definition of the command line, with everything that clap adds.
fn definition() -> clap::Command {
    let mut definition = Cli::command();
    definition.build();
    definition
}

impl Command {
    /// Returns the name of the resource, if it is about one.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Status(args) => args.name.as_deref(),
            Self::Publish(args) => Some(&args.name),
            Self::Stats(args) => Some(&args.name),
            Self::Events(args) => Some(&args.name),
            Self::DeadLetters(args) => Some(&args.name),
            Self::Audit(args) => Some(&args.name),
            Self::Logs(args) => Some(&args.name),
            Self::Backup(args) => Some(&args.name),
            Self::Backups(args) => Some(&args.name),
            Self::Restore(args) => Some(&args.name),
            Self::Completions(_) | Self::Complete(_) => None,
            Self::Pause(args) | Self::Resume(args) | Self::Hibernate(args) | Self::Wake(args) => Some(&args.name),
        }
    }
}
