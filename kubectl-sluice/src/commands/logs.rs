//! `logs`: the logs of all pods of a resource in one stream, each line with the name of its pod.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use futures::AsyncBufReadExt;
use futures::AsyncReadExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, ResourceExt};
use sluice_operator::controller::build::names::{Component, component_of};
use sluice_service::units::duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Out, write};
use crate::context::Context;
use crate::outcome::Outcome;
use crate::pods::{self, COMPONENTS};
use crate::resource::Resource;
use crate::table::one_line;

/// The maximum length of a line in bytes; what is longer is divided.
const LINE_BYTES: u64 = 64 << 10;
/// The number of lines that are read before they are written.
const AHEAD: usize = 256;
/// The number of lines of a pod that are read before they are written, when lines are ordered by time.
const AHEAD_OF_POD: usize = 16;
/// How often new pods are looked for while logs are followed.
const LOOK: Duration = Duration::from_secs(3);

/// Shows the logs of all pods, each line with the name of its pod
///
/// Without --follow the lines are in the order of their times. With --follow they come as they are written, and pods that
/// are created meanwhile are added.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource
    pub name: String,
    /// Only pods of this component; can be repeated
    #[arg(long, short, value_name = "publisher|aggregator|redis|postgres", hide_possible_values = true)]
    pub component: Vec<OfComponent>,
    /// Go on until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Lines from the end of the log of each pod
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..), value_name = "N")]
    pub tail: Option<i64>,
    /// Only lines that are younger, such as 5m
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub since: Option<Duration>,
    /// Logs of the previous container of each pod, which ended
    #[arg(long, short, conflicts_with = "follow")]
    pub previous: bool,
    /// Time of each line
    #[arg(long)]
    pub timestamps: bool,
}

/// A component, as it is written in the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names of the components")]
pub enum OfComponent {
    Publisher,
    Aggregator,
    Redis,
    Postgres,
}

impl From<OfComponent> for Component {
    fn from(component: OfComponent) -> Self {
        match component {
            OfComponent::Publisher => Self::Publisher,
            OfComponent::Aggregator => Self::Aggregator,
            OfComponent::Redis => Self::Redis,
            OfComponent::Postgres => Self::Postgres,
        }
    }
}

/// A line of a pod's log.
struct Line {
    pod: String,
    /// The time that the node noted.
    time: Option<Timestamp>,
    text: String,
}

/// Runs the command.
///
/// # Errors
/// If pods cannot be listed, or none has a log.
pub async fn run(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let components: Vec<Component> = match args.component.as_slice() {
        [] => COMPONENTS.to_vec(),
        named => named.iter().map(|component| Component::from(*component)).collect(),
    };
    let found = find(context, args, &components).await?;
    if found.is_empty() && !args.follow {
        // A resource that does not exist has no pods either.
        Resource::read(context, &args.name).await?;
        bail!("it has no such pods");
    }
    if args.follow {
        follow(context, args, &components, found, out).await
    } else {
        merged(context, args, found, out).await
    }
}

/// Returns the pods whose logs are shown, each with the name of its container.
async fn find(context: &Context, args: &Args, components: &[Component]) -> anyhow::Result<Vec<(String, String)>> {
    let pods = pods::of_resource(context, &context.names(&args.name)).await?;
    let wanted = pods.iter().filter(|pod| components.iter().any(|component| pods::is_of(pod, *component)));
    Ok(wanted.filter_map(|pod| Some((pod.name_any(), component_of(pod.labels())?.to_owned()))).collect())
}

/// Writes all lines that exist, in the order of their times.
async fn merged(context: &Context, args: &Args, found: Vec<(String, String)>, out: Out<'_>) -> anyhow::Result<Outcome> {
    let api: Api<Pod> = context.api()?;
    let logs = found.into_iter().map(|(pod, container)| {
        let (sender, lines) = mpsc::channel(AHEAD_OF_POD);
        tokio::spawn(read(api.clone(), pod, parameters(args, container), None, sender));
        lines
    });
    let mut written = 0_u64;
    let failed = merge(logs.collect(), |line| {
        written += 1;
        write_line(args, line, out)
    })
    .await?;
    match failed.as_slice() {
        [] => Ok(Outcome::Done),
        failed if written == 0 => bail!("{}", failed.join("; ")),
        // The lines that exist are shown; a pod that has not started has none.
        failed => {
            write(out, &format!("[not complete] {}\n", one_line(&failed.join("; "))))?;
            Ok(Outcome::Done)
        }
    }
}

/// Takes the lines of several logs by their times: of each log the next line is held, and the oldest of them is taken.
/// Returns what could not be read.
async fn merge(
    logs: Vec<mpsc::Receiver<anyhow::Result<Line>>>,
    mut take: impl FnMut(&Line) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<String>> {
    let (mut held, mut failed) = (Vec::new(), Vec::new());
    let mut waiting = logs;
    loop {
        for mut log in waiting.drain(..) {
            match log.recv().await {
                Some(Ok(line)) => held.push((line, log)),
                Some(Err(error)) => failed.push(format!("{error:#}")),
                None => {}
            }
        }
        let Some(oldest) = (0..held.len()).min_by_key(|at| held[*at].0.time) else { return Ok(failed) };
        let (line, log) = held.swap_remove(oldest);
        take(&line)?;
        waiting.push(log);
    }
}

/// Writes lines as they come, until the command is ended.
async fn follow(
    context: &Context,
    args: &Args,
    components: &[Component],
    found: Vec<(String, String)>,
    out: Out<'_>,
) -> anyhow::Result<Outcome> {
    let api: Api<Pod> = context.api()?;
    let (sender, mut lines) = mpsc::channel(AHEAD);
    let mut readers: HashMap<String, JoinHandle<()>> = HashMap::new();
    // The time of the last line of each pod: where its next container, or a connection that broke, goes on.
    let mut last: HashMap<String, Timestamp> = HashMap::new();
    let mut found = found;
    let mut look = tokio::time::interval(LOOK);
    look.tick().await;
    loop {
        readers.retain(|_, reader| !reader.is_finished());
        last.retain(|pod, _| found.iter().any(|(name, _)| name == pod));
        for (pod, container) in &found {
            if readers.contains_key(pod) {
                continue;
            }
            let mut parameters = parameters(args, container.clone());
            let after = last.get(pod).copied();
            if after.is_some() {
                (parameters.tail_lines, parameters.since_seconds, parameters.since_time) = (None, None, after);
            }
            let reader = read(api.clone(), pod.clone(), parameters, after, sender.clone());
            readers.insert(pod.clone(), tokio::spawn(reader));
        }
        found = loop {
            tokio::select! {
                Some(line) = lines.recv() => match line {
                    Ok(line) => {
                        if let Some(time) = line.time {
                            last.insert(line.pod.clone(), time);
                        }
                        write_line(args, &line, out)?;
                    }
                    Err(error) if is_forbidden(&error) => return Err(error),
                    // The container has not started yet, or the pod is gone: it is looked for again.
                    Err(_) => {}
                },
                _ = look.tick() => break find(context, args, components).await.context("while following")?,
            }
        };
    }
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 403)
}

fn parameters(args: &Args, container: String) -> LogParams {
    LogParams {
        container: Some(container),
        follow: args.follow,
        tail_lines: args.tail,
        since_seconds: args.since.map(|since| i64::try_from(since.as_secs().max(1)).unwrap_or(i64::MAX)),
        previous: args.previous,
        // The order of the lines is that of their times.
        timestamps: true,
        ..LogParams::default()
    }
}

/// Reads a log to its end, without the lines up to `after`.
async fn read(
    api: Api<Pod>,
    pod: String,
    parameters: LogParams,
    after: Option<Timestamp>,
    lines: mpsc::Sender<anyhow::Result<Line>>,
) {
    if let Err(error) = read_lines(&api, &pod, &parameters, after, &lines).await {
        let _ = lines.send(Err(error.context(format!("the log of pod {pod}")))).await;
    }
}

async fn read_lines(
    api: &Api<Pod>,
    pod: &str,
    parameters: &LogParams,
    after: Option<Timestamp>,
    lines: &mpsc::Sender<anyhow::Result<Line>>,
) -> anyhow::Result<()> {
    let mut log = api.log_stream(pod, parameters).await?;
    loop {
        let mut line = Vec::new();
        if (&mut log).take(LINE_BYTES).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let line = parsed(pod, &String::from_utf8_lossy(&line));
        if line.time.is_some() && line.time <= after {
            continue;
        }
        if lines.send(Ok(line)).await.is_err() {
            return Ok(());
        }
    }
}

/// Returns a line without the time that the node writes before it.
fn parsed(pod: &str, line: &str) -> Line {
    let line = line.trim_end_matches(['\n', '\r']);
    let timed = line.split_once(' ').and_then(|(time, text)| Some((time.parse().ok()?, text)));
    let (time, text) = timed.map_or((None, line), |(time, text)| (Some(time), text));
    Line { pod: pod.to_owned(), time, text: one_line(text) }
}

fn write_line(args: &Args, line: &Line, out: Out<'_>) -> anyhow::Result<()> {
    let Line { pod, time, text } = line;
    match time.filter(|_| args.timestamps) {
        Some(time) => write(out, &format!("[{pod}] {time} {text}\n")),
        None => write(out, &format!("[{pod}] {text}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_of_several_pods_are_shown_in_the_order_of_their_times() {
        let mut logs = Vec::new();
        for (pod, seconds) in [("a", vec!["01", "04"]), ("b", vec!["02", "03", "05"]), ("c", vec![])] {
            let (sender, lines) = mpsc::channel(8);
            for second in seconds {
                let line = parsed(pod, &format!("2026-01-01T00:00:{second}.5Z line {second}\n"));
                sender.send(Ok(line)).await.unwrap();
            }
            if pod == "c" {
                sender.send(Err(anyhow::anyhow!("waiting to start"))).await.unwrap();
            }
            logs.push(lines);
        }
        let mut taken = Vec::new();
        let failed = merge(logs, |line| {
            taken.push(format!("{} {}", line.pod, line.text));
            Ok(())
        });
        assert_eq!(failed.await.unwrap(), ["waiting to start"]);
        assert_eq!(taken, ["a line 01", "b line 02", "b line 03", "a line 04", "b line 05"]);
    }

    #[test]
    fn a_line_without_a_time_is_shown_whole() {
        assert_eq!(parsed("a", "unable to read\n").text, "unable to read");
        assert_eq!(parsed("a", "2026-01-01T00:00:01Z \u{1b}[31mred\n").text, " [31mred");
    }
}
