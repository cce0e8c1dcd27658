//! The settings of the program. Each is an option and an environment variable, and most have a default.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use sluice_service::units::duration;

use crate::alerts::{RUNBOOKS, Set};

/// Runs the event aggregators that EventAggregator resources describe.
#[derive(Debug, Parser)]
#[command(name = "sluice-operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch EventAggregator resources and reconcile them
    Run(Box<RunSettings>),
    /// Print the CustomResourceDefinition as YAML
    Crd,
    /// Print the reference of the resource as Markdown
    #[command(hide = true)]
    Docs,
    /// Print alerts as rules of Prometheus, for one that does not read PrometheusRules
    Rules(RulesSettings),
    /// Ask a running operator whether it is ready; exit 0 if so
    Healthcheck(HealthcheckSettings),
}

/// Settings of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunSettings {
    /// Address for health checks and metrics
    #[arg(long, env = "SLUICE_LISTEN", default_value = "[::]:8082", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Namespaces to watch; without any, all of them
    #[arg(long, env = "SLUICE_NAMESPACES", value_delimiter = ',', value_name = "NAME,…")]
    pub namespaces: Vec<String>,
    /// Resources reconciled at the same time, in all namespaces together
    #[arg(long, env = "SLUICE_CONCURRENCY", default_value_t = 8, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
    /// Resources whose managed servers restart at the same time because of a change that is not that of the resource, such
    /// as another image in the operator's settings
    #[arg(long, env = "SLUICE_SERVER_RESTARTS", default_value_t = 1, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub server_restarts: u16,
    /// How often a resource is reconciled although nothing is known to have changed
    #[arg(long, env = "SLUICE_RESYNC", default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub resync: Duration,
    /// How often backlog and totals in the status are refreshed
    #[arg(long, env = "SLUICE_OBSERVE", default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub observe: Duration,
    /// How long to finish the work in flight after SIGTERM
    #[arg(long, env = "SLUICE_SHUTDOWN_TIMEOUT", default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub shutdown_timeout: Duration,
    /// Whether the pods of resources have the user ids of their images; false where the cluster assigns them, as
    /// OpenShift does
    #[arg(long, env = "SLUICE_FIXED_USER_IDS", default_value_t = true, action = ArgAction::Set,
        value_name = "true|false")]
    pub fixed_user_ids: bool,
    /// Labels of the Secrets that the operator reads for resources; without it, it may read every Secret to which a
    /// resource refers
    #[arg(long, env = "SLUICE_SECRET_SELECTOR", value_parser = labels, value_name = "KEY=VALUE,…")]
    pub secret_selector: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub runbooks: RunbookArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub lease: LeaseArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub images: ImageArgs,
}

/// Where alerts link to.
#[derive(Debug, Clone, Args)]
pub struct RunbookArgs {
    /// Address of the runbooks, to which each alert links with its name in lower case as the anchor
    #[arg(long, env = "SLUICE_RUNBOOK_URL", default_value = RUNBOOKS, value_name = "URL")]
    pub runbook_url: String,
}

/// Settings of `rules`.
#[derive(Debug, Clone, Args)]
pub struct RulesSettings {
    /// Which alerts
    #[arg(value_enum)]
    pub set: Set,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub runbooks: RunbookArgs,
}

/// Leader election among several operators.
#[derive(Debug, Clone, Args)]
pub struct LeaseArgs {
    /// Name of the Lease that the leader holds
    #[arg(long, env = "SLUICE_LEASE_NAME", default_value = "sluice-operator", value_name = "NAME")]
    pub lease_name: String,
    /// The operator's own namespace, which holds the Lease and from which it connects to publishers and
    /// aggregators; by default the namespace of the pod or of the kubeconfig
    #[arg(long, env = "SLUICE_OPERATOR_NAMESPACE", value_name = "NAME")]
    pub operator_namespace: Option<String>,
    /// Unique name of this operator; by default the name of the host
    #[arg(long, env = "SLUICE_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// How long the leader may fail to renew the Lease before another operator takes over
    #[arg(long, env = "SLUICE_LEASE_DURATION", default_value = "15s", value_parser = duration, value_name = "TIME")]
    pub lease_duration: Duration,
}

/// Images of resources that do not name their own.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    /// Image of the aggregators
    #[arg(long, env = "SLUICE_IMAGE_AGGREGATOR", default_value = concat!("sluice-aggregator:", env!("CARGO_PKG_VERSION")), value_name = "IMAGE")]
    pub image_aggregator: String,
    /// Image of the publishers
    #[arg(long, env = "SLUICE_IMAGE_PUBLISHER", default_value = concat!("sluice-publisher:", env!("CARGO_PKG_VERSION")), value_name = "IMAGE")]
    pub image_publisher: String,
    /// Image of managed Redis servers, 7.0 or newer
    #[arg(long, env = "SLUICE_IMAGE_REDIS", default_value = "redis:8", value_name = "IMAGE")]
    pub image_redis: String,
    /// Image of managed PostgreSQL servers; {version} is replaced by the major version of the resource
    #[arg(long, env = "SLUICE_IMAGE_POSTGRES", default_value = "postgres:{version}", value_name = "IMAGE")]
    pub image_postgres: String,
}

/// Settings of `healthcheck`.
#[derive(Debug, Clone, Args)]
pub struct HealthcheckSettings {
    /// Which operator
    #[arg(long, env = "SLUICE_HEALTHCHECK_URL", default_value = "http://127.0.0.1:8082", value_name = "URL")]
    pub url: String,
}

/// Parses labels. A label selector of Kubernetes can say more, which nobody needs here.
fn labels(text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        !part.is_empty() && part.chars().all(inner)
    };
    let is_label = |label: &str| label.split_once('=').is_some_and(|(key, value)| is_part(key) && is_part(value));
    match text.split(',').find(|label| !is_label(label)) {
        Some(label) => Err(format!("{label:?} is not of the form KEY=VALUE")),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn labels_that_select_nothing_are_refused() {
        for text in ["sluice.dev/readable=true", "a=b,c=d"] {
            assert_eq!(labels(text), Ok(text.to_owned()));
        }
        for text in ["", "a", "a=", "=b", "a=b,", "a==b", "a in (b)"] {
            assert!(labels(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_options_are_consistent_and_each_is_an_environment_variable() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        for command in cli.get_subcommands().filter(|c| !matches!(c.get_name(), "help" | "healthcheck")) {
            let options = command.get_arguments().filter(|argument| !argument.is_positional());
            for option in options.filter(|o| !matches!(o.get_id().as_str(), "help" | "version")) {
                let expected = format!("SLUICE_{}", option.get_id().as_str().to_uppercase());
                assert_eq!(option.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
            }
        }
    }
}
