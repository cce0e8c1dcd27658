//! `publish`: one event from arguments, or many from lines of JSON.

mod lines;
mod send;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;
use serde_json::value::RawValue;
use sluice_service::units::duration_within;

use super::{Out, write, write_json};
use crate::context::Context;
use crate::global::{Form, Output};
use crate::outcome::Outcome;
use crate::programs::Programs;
use lines::{Batch, Lines};
use send::Sender;

/// Publishes an event, or a file of events
///
/// With --id and --payload it publishes one event. With --file each line is an event in JSON, as POST /publish takes it:
/// {"topic":"orders","event_id":"evt-1","payload":{"value":100}}.
///
/// Events are sent in batches, each as one request with an Idempotency-Key, and a request without an answer is repeated
/// with the same key: it counts once. If the command ends before it is through, its message says with which
/// --idempotency-key the same command continues it, so that nothing counts twice.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource
    pub name: String,
    /// Topic of the event
    #[arg(long, default_value = "default", value_name = "TOPIC", conflicts_with = "file")]
    pub topic: String,
    /// Id of the event: the topic and the id decide what is a duplicate
    #[arg(long, value_name = "ID", requires = "payload", conflicts_with = "file")]
    pub id: Option<String>,
    /// Payload of the event: any JSON
    #[arg(long, value_name = "JSON", requires = "id", conflicts_with = "file")]
    pub payload: Option<String>,
    /// Source of the event
    #[arg(long, value_name = "SOURCE", requires = "id", conflicts_with = "file")]
    pub source: Option<String>,
    /// File with an event in each line; - is standard input
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Most events in a request
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub batch: u32,
    /// Begin of the Idempotency-Keys, to which the number of the request is added [default: a new one]
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Longest time for which a request without an answer, or one that is refused for now, is repeated
    #[arg(long, default_value = "5m", value_parser = duration_within("0s", "24h"), value_name = "TIME")]
    pub retry_for: Duration,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub output: Output,
}

/// Runs the command.
///
/// # Errors
/// If an event is refused or not answered. The message says how many were accepted before, and how to continue.
pub async fn run(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let mut lines = match (&args.file, &args.id, &args.payload) {
        (Some(file), ..) => Lines::open(file).await?,
        (None, Some(id), Some(payload)) => Lines::of(event(args, id, payload)?),
        _ => bail!("give one event with --id and --payload, or a file of events with --file (- is standard input)"),
    };
    let key = args.idempotency_key.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    if key.is_empty() || key.len() > 200 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("--idempotency-key must have 1 to 200 visible ASCII characters");
    }
    let mut sender = Sender::new(Programs::of(context, &args.name).await?, key.clone(), args.retry_for);
    while let Some(batch) = lines.next(args.batch).await? {
        let sent = sender.send(&batch).await;
        sent.with_context(|| explanation(&batch, sender.accepted, &key))?;
    }
    match args.output.form {
        Form::Text if sender.requests == 1 => write(out, &format!("accepted {} events\n", sender.accepted))?,
        Form::Text => write(out, &format!("accepted {} events in {} requests\n", sender.accepted, sender.requests))?,
        Form::Json => {
            let (accepted, requests, repeats) = (sender.accepted, sender.requests, sender.repeats);
            let report =
                json!({"accepted": accepted, "requests": requests, "repeats": repeats, "idempotency_key": key});
            write_json(out, &report)?;
        }
    }
    Ok(Outcome::Done)
}

fn explanation(batch: &Batch, accepted: u64, key: &str) -> String {
    format!(
        "{} cannot be published; {accepted} events before were accepted. To continue, repeat the same command with \
         --idempotency-key {key}: what was accepted is not counted again",
        batch.place()
    )
}

/// Returns the event of the arguments as a line.
fn event(args: &Args, id: &str, payload: &str) -> anyhow::Result<String> {
    let payload: &RawValue =
        serde_json::from_str(payload).with_context(|| "--payload is not JSON (a text needs quotes: '\"text\"')")?;
    let mut event = format!("{{\"topic\":{},\"event_id\":{}", json!(args.topic), json!(id));
    if let Some(source) = &args.source {
        event.push_str(&format!(",\"source\":{}", json!(source)));
    }
    // As it was given: numbers are not rounded.
    event.push_str(&format!(",\"payload\":{payload}}}"));
    Ok(event)
}
