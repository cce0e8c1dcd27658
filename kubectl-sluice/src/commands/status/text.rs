//! The report, for people.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::report::{About, Rates, Report, Row};
use crate::resource::{Condition, Resource};
use crate::table::{age, one_line, row, table};

/// Returns the table of all resources.
pub(super) fn of_all(resources: &[Resource], with_namespace: bool, now: Timestamp) -> String {
    let mut rows = vec![row(["NAMESPACE", "NAME", "READY", "REASON", "REPLICAS", "BACKLOG", "AGE", "MESSAGE"])];
    for resource in resources {
        let Row { namespace, name, ready, replicas, backlog, created } = Row::of(resource);
        let message = if ready.status == "True" { "" } else { ready.message.as_str() };
        let age = created.map_or_else(unknown, |created| age(created, now));
        let (replicas, backlog) = (number(replicas), number(backlog));
        rows.push(row([&namespace, &name, &ready.status, &ready.reason, &replicas, &backlog, &age, message]));
    }
    if !with_namespace {
        rows.iter_mut().for_each(|row| drop(row.remove(0)));
    }
    table(&rows)
}

/// Returns the report.
pub(super) fn of(report: &Report, now: Timestamp) -> String {
    let mut text = heading(report);
    let facts = facts(report).into_iter().map(|(name, value)| row(["", name, &value])).collect::<Vec<_>>();
    text.push_str(&table(&facts));
    let wrong: Vec<_> = report.conditions.iter().filter(|condition| !condition.is_fine()).collect();
    if !wrong.is_empty() {
        let rows: Vec<_> = wrong.iter().map(|condition| of_condition(condition, now)).collect();
        section(&mut text, "Conditions that are not as they should be", &rows);
    }
    if !report.pod_problems.is_empty() {
        let rows: Vec<_> = report.pod_problems.iter().map(|problem| row(["", problem])).collect();
        section(&mut text, "Pods with problems", &rows);
    }
    statistics(&mut text, report);
    if !report.events.is_empty() {
        let rows: Vec<_> = report.events.iter().map(|about| of_event(about, now)).collect();
        section(&mut text, "Latest events about it", &rows);
    }
    text
}

fn heading(report: &Report) -> String {
    let Report { namespace, name, ready, .. } = report;
    let state = match ready.status.as_str() {
        "True" => "Ready".to_owned(),
        "False" => format!("NOT READY ({}): {}", ready.reason, one_line(&ready.message)),
        _ if ready.reason.is_empty() => "not known to be ready: the operator has not written a status".to_owned(),
        _ => format!("not known to be ready ({}): {}", ready.reason, one_line(&ready.message)),
    };
    let mut text = format!("{namespace}/{name}: {state}\n");
    if report.change_unseen {
        text.push_str("The operator has not seen the last change of the spec: what follows is about an older one.\n");
    }
    for (is_so, what) in
        [(report.being_deleted, "being deleted"), (report.paused, "paused"), (report.hibernated, "hibernated")]
    {
        if is_so {
            let _ = writeln!(text, "It is {what}.");
        }
    }
    text
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    facts.push(("endpoint", report.endpoint.clone().unwrap_or_else(unknown)));
    let (replicas, desired) = (number(report.replicas), number(report.desired_replicas));
    let bounds = |name: &str| report.autoscaling.as_ref().map(|bounds| bounds[name].to_string());
    let autoscaling = match (bounds("minReplicas"), bounds("maxReplicas")) {
        (Some(min), Some(max)) => format!(", autoscaled from {} to {max}", if min == "null" { "1" } else { &min }),
        _ => String::new(),
    };
    facts.push(("replicas", format!("{replicas} of {desired}{autoscaling}")));
    let pods = report.pods.iter().map(|(component, [ready, all])| format!("{component} {ready}/{all}"));
    let pods = pods.collect::<Vec<_>>().join(", ");
    facts.push(("ready pods", if pods.is_empty() { "none".to_owned() } else { pods }));
    facts.push(("backlog", number(report.backlog)));
    if let Some(Value::Object(volumes)) = &report.volumes {
        let sizes = volumes.iter().filter_map(|(name, size)| Some(format!("{name} {}", size.as_str()?)));
        let sizes = sizes.collect::<Vec<_>>().join(", ");
        facts.push(("volumes", if sizes.is_empty() { "none".to_owned() } else { sizes }));
    }
    if let Some(durable) = report.conditions.iter().find(|condition| condition.kind == "Durable") {
        facts.push(("durable", format!("{} ({})", durable.status, durable.reason)));
    }
    facts.push(("deletion policy", report.deletion_policy.clone().unwrap_or_else(unknown)));
    facts
}

fn statistics(text: &mut String, report: &Report) {
    let statistics = &report.statistics;
    text.push_str("Statistics");
    if let Some(reason) = &statistics.unknown_because {
        let _ = write!(text, " (of the status, because the programs do not tell: {})", one_line(reason));
    }
    let _ = writeln!(text, ":\n  {}", statistics.text.clone().unwrap_or_else(unknown));
    if let Some(Rates { received, stored, duplicates, seconds }) = statistics.rates {
        let rates = format!("received {received:.1}/s, stored {stored:.1}/s, duplicates {duplicates:.1}/s");
        let _ = writeln!(text, "  over the last {seconds:.1}s: {rates}");
    }
}

fn of_condition(condition: &Condition, now: Timestamp) -> Vec<String> {
    let Condition { kind, status, reason, message, last_transition_time } = condition;
    let since = last_transition_time.map_or_else(unknown, |since| age(since, now));
    row(["", kind, status, reason, &since, message])
}

fn of_event(about: &About, now: Timestamp) -> Vec<String> {
    let About { last, count, kind, reason, message } = about;
    let last = last.map_or_else(unknown, |last| age(last, now));
    let times = if *count > 1 { format!("×{count}") } else { String::new() };
    row(["", &last, &times, kind, reason, message])
}

fn section(text: &mut String, title: &str, rows: &[Vec<String>]) {
    let _ = write!(text, "{title}:\n{}", table(rows));
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(unknown, |number| number.to_string())
}

fn unknown() -> String {
    "unknown".to_owned()
}
