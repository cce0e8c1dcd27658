//! `audit`: runs the audit of an aggregator in one of its pods, where it reaches Redis and PostgreSQL whatever the
//! NetworkPolicies are, and has their passwords. No object is created, so Pod Security has nothing to refuse.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::ResourceExt;
use kube::api::AttachParams;
use sluice_operator::controller::build::names::Component;
use sluice_service::units::duration_within;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Out, write};
use crate::context::Context;
use crate::global::{Form, Output};
use crate::outcome::{Late, Outcome};
use crate::pods;

/// The program in the image of the aggregators.
pub const PROGRAM: &str = "/usr/local/bin/sluice-aggregator";
/// The maximum size of the report in bytes. It has a line for each topic.
const MAX_REPORT: u64 = 16 << 20;
/// How long the audit may take beyond its own timeout.
const MARGIN: Duration = Duration::from_secs(15);

/// Proves or disproves that every event that was accepted is accounted for
///
/// Runs `sluice-aggregator audit` in the container of an aggregator. Exits with 0 if all numbers agree, with 3 if one
/// differs, and with 4 if one is not known.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource
    pub name: String,
    /// Compare all stored events with the hashes in their rows. Reads the whole table of events
    #[arg(long)]
    pub check_rows: bool,
    /// Note the result in the store, from which the servers show it: in GET /overview, in the page, in metrics and in an alert.
    /// Otherwise the audit only reads
    #[arg(long)]
    pub record: bool,
    /// The longest that the audit may take
    #[arg(long, default_value = "10m", value_parser = duration_within("1s", "24h"), value_name = "TIME")]
    pub timeout: Duration,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub output: Output,
}

/// Runs the command.
///
/// # Errors
/// If there is no aggregator, or the audit cannot be run.
pub async fn run(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let all = pods::of_resource(context, &context.names(&args.name)).await?;
    let running = |pod: &&Pod| pods::is_of(pod, Component::Aggregator) && pods::is_running(pod, Component::Aggregator);
    let mut candidates: Vec<_> = all.iter().filter(running).collect();
    // A ready one first: its servers answer.
    candidates.sort_by_key(|pod| !pods::is_ready(pod));
    let Some(pod) = candidates.first().map(|pod| pod.name_any()) else {
        bail!("the audit runs in an aggregator, and none of its aggregators runs (kubectl sluice status says why)");
    };
    let within = args.timeout + MARGIN;
    match tokio::time::timeout(within, audit(context, args, &pod, out)).await {
        Ok(outcome) => outcome.with_context(|| format!("the audit in pod {pod}")),
        Err(_) => Err(Late(format!("the audit in pod {pod} did not end within {within:?}")).into()),
    }
}

/// Returns the command that is run.
fn command(args: &Args) -> Vec<String> {
    let format = if args.output.form == Form::Json { "json" } else { "table" };
    let seconds = args.timeout.as_secs();
    let mut command = [PROGRAM, "audit", "--format", format, "--timeout"].map(str::to_owned).to_vec();
    command.push(format!("{seconds}s"));
    if args.check_rows {
        command.push("--check-rows".to_owned());
    }
    if args.record {
        command.push("--record".to_owned());
    }
    command
}

async fn audit(context: &Context, args: &Args, pod: &str, out: Out<'_>) -> anyhow::Result<Outcome> {
    let attach = AttachParams::default().container(Component::Aggregator.as_str()).stderr(true);
    let api = context.api::<Pod>()?;
    let mut process = context.answer("cannot run it", api.exec(pod, command(args), &attach)).await?;
    let (status, stdout, stderr) = (process.take_status(), process.stdout(), process.stderr());
    let (report, errors) = tokio::join!(text(stdout), text(stderr));
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let (report, errors) = (report?, errors?);
    write(out, &report)?;
    let code = status.as_ref().and_then(exit_code);
    match code {
        Some(0) => Ok(Outcome::Done),
        Some(1) if !report.is_empty() => Ok(Outcome::Negative),
        // The same code is that of wrong usage, which has no report: an older aggregator lacks an option.
        Some(2) if !report.is_empty() => Ok(Outcome::Unknown),
        _ => {
            let said = status.and_then(|status| status.message).unwrap_or_default();
            let last = errors.trim().lines().last().unwrap_or(&said);
            bail!("{}", crate::table::one_line(last))
        }
    }
}

async fn text(stream: Option<impl AsyncRead + Unpin>) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_REPORT).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the exit code that the node reports; `None` if the program could not be run.
fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let cause = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    cause.message.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_audit() {
        let status = |json: &str| serde_json::from_str::<Status>(json).unwrap();
        assert_eq!(exit_code(&status(r#"{"status":"Success"}"#)), Some(0));
        let failed = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[
            {"reason":"ExitCode","message":"2"}]}}"#;
        assert_eq!(exit_code(&status(failed)), Some(2));
        assert_eq!(exit_code(&status(r#"{"status":"Failure","message":"no such file"}"#)), None);
    }

    #[test]
    fn the_options_of_the_audit_are_passed_on() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        for (line, passed) in [
            ("audit shop", &["--format", "table", "--timeout", "600s"][..]),
            ("audit shop --record --timeout 5s", &["--format", "table", "--timeout", "5s", "--record"]),
            (
                "audit shop --check-rows -o json --record",
                &["--format", "json", "--timeout", "600s", "--check-rows", "--record"],
            ),
        ] {
            let Line { args } = clap::Parser::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(command(&args), [&[PROGRAM, "audit"], passed].concat(), "{line}");
        }
    }

    #[test]
    fn the_program_is_the_entry_point_of_the_image() {
        let dockerfile = include_str!("../../../Dockerfile");
        assert!(dockerfile.contains(&format!("ENTRYPOINT [\"{PROGRAM}\"]")));
    }
}
