//! Compares the metrics that the programs record with the sets that declare them and with `docs/metrics.md`. The
//! test is here because the operator's tests depend on all programs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sluice_service::metrics::{Metric, MetricKind};

/// Each set, with the folder of the sources that record it and its heading in the document. Crates without a set
/// of their own must not record any metric.
const SETS: [(&str, &str, &[Metric]); 7] = [
    ("crates/service/src", "Every program", sluice_service::metrics::ALL),
    ("crates/auth/src", "Authentication", sluice_auth::metrics::ALL),
    ("crates/log/src", "Log", sluice_log::metrics::ALL),
    ("crates/trace/src", "Traces", sluice_trace::metrics::ALL),
    ("publisher/src", "Publisher", sluice_publisher::metrics::ALL),
    ("aggregator/src", "Aggregator", sluice_aggregator::metrics::ALL),
    ("operator/src", "Operator", sluice_operator::metrics::ALL),
];
const WITHOUT_METRICS: [&str; 3] = ["crates/event/src", "crates/pgcopy/src", "crates/store/src"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the sources in a folder, without comments.
fn sources(folder: &str) -> Vec<String> {
    let mut folders = vec![root().join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(path).unwrap();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                sources.push(code.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    assert!(!sources.is_empty(), "there are no sources in {folder}");
    sources
}

/// A call of a recording macro: the macro, its first argument, and the names of the labels.
#[derive(Debug)]
struct Recorded {
    kind: &'static str,
    name: String,
    labels: BTreeSet<String>,
}

fn recorded(source: &str) -> Vec<Recorded> {
    let mut found = Vec::new();
    for kind in [MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram].map(MetricKind::as_str) {
        for rest in source.split(&format!("{kind}!(")).skip(1) {
            let mut depth = 1;
            let end = rest.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            let arguments = &rest[..end.unwrap()];
            let name = arguments.split(',').next().unwrap().trim().to_owned();
            // The name of a label is the string before each arrow.
            let before_arrows = arguments.match_indices("=>").map(|(at, _)| arguments[..at].trim_end());
            let labels = before_arrows.map(|text| text.trim_end_matches('"').rsplit('"').next().unwrap().to_owned());
            found.push(Recorded { kind, name, labels: labels.collect() });
        }
    }
    found
}

/// Returns the identifiers of the constants, by the names of the metrics.
fn constants(folder: &str) -> BTreeMap<String, String> {
    let source = fs::read_to_string(root().join(folder).join("metrics.rs")).unwrap();
    let declared = source.split("pub const ").skip(1).filter_map(|text| {
        let (constant, value) = text.split_once(": Metric =")?;
        Some((value.split('"').nth(1).unwrap().to_owned(), constant.to_owned()))
    });
    declared.collect()
}

#[test]
fn every_recorded_metric_is_of_the_crates_set_with_its_type_and_labels() {
    for (folder, _, set) in SETS {
        let constants = constants(folder);
        let declared: BTreeSet<_> = constants.keys().map(String::as_str).collect();
        let listed: BTreeSet<_> = set.iter().map(|metric| metric.name).collect();
        assert_eq!(listed, declared, "{folder}: ALL does not list what metrics.rs declares");
        assert_eq!(listed.len(), set.len(), "{folder}: ALL lists a metric twice");

        let recorded: Vec<_> = sources(folder).iter().flat_map(|source| recorded(source)).collect();
        let mut unrecorded = listed;
        for call in recorded {
            // A name that is not a constant, such as a literal, is in no set.
            let constant = call.name.strip_suffix(".name").and_then(|path| path.rsplit("::").next());
            let metric = set.iter().find(|metric| constant == constants.get(metric.name).map(String::as_str));
            let metric = metric.unwrap_or_else(|| panic!("{folder}: {call:?} is not in the set"));
            assert_eq!(call.kind, metric.kind.as_str(), "{folder}: {}", metric.name);
            assert_eq!(call.labels, metric.labels.iter().map(|&label| label.to_owned()).collect(), "{}", metric.name);
            unrecorded.remove(metric.name);
        }
        assert!(unrecorded.is_empty(), "{folder}: nothing records {unrecorded:?}");
    }
}

#[test]
fn libraries_without_a_set_record_nothing() {
    for folder in WITHOUT_METRICS {
        let recorded: Vec<_> = sources(folder).iter().flat_map(|source| recorded(source)).collect();
        assert!(recorded.is_empty(), "{folder}: {recorded:?}");
    }
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    let all: Vec<_> = SETS.iter().flat_map(|(_, _, set)| *set).collect();
    let names: BTreeSet<_> = all.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), all.len(), "two metrics have the same name");
    for metric in all {
        assert!(metric.name.starts_with("sluice_") || metric.name.starts_with("process_"), "{}", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter, "{}", metric.name);
        // The recorder chooses the buckets by this suffix.
        assert!(metric.kind != MetricKind::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
    }
}

/// Returns the rows of the tables in the document: (heading, name, type, labels, unit).
fn documented() -> Vec<[String; 5]> {
    let docs = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let mut heading = String::new();
    let mut rows = Vec::new();
    for line in docs.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text.to_owned();
        }
        if line.starts_with("| `") {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 6, "{line}");
            assert!(cells.iter().all(|cell| !cell.is_empty()), "a cell is empty: {line}");
            let plain = |cell: &str| cell.replace('`', "");
            rows.push([heading.clone(), plain(cells[0]), plain(cells[1]), plain(cells[2]), plain(cells[3])]);
        }
    }
    rows
}

#[test]
fn the_document_has_every_metric_and_no_other() {
    let expected = SETS.iter().flat_map(|&(_, heading, set)| {
        set.iter().map(move |metric| {
            let labels = if metric.labels.is_empty() { "none".to_owned() } else { metric.labels.join(", ") };
            [heading, metric.name, metric.kind.as_str(), &labels, metric.unit].map(str::to_owned)
        })
    });
    let (expected, documented): (BTreeSet<_>, Vec<_>) = (expected.collect(), documented());
    let rows: BTreeSet<_> = documented.iter().cloned().collect();
    assert_eq!(rows.len(), documented.len(), "docs/metrics.md has a row twice");
    let missing: Vec<_> = expected.difference(&rows).collect();
    let unknown: Vec<_> = rows.difference(&expected).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "docs/metrics.md lacks {missing:?} and has {unknown:?}");
}

#[test]
fn documents_name_no_metric_that_does_not_exist() {
    let names: BTreeSet<_> = SETS.iter().flat_map(|(_, _, set)| *set).map(|metric| metric.name).collect();
    for path in fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let endings = ["_total", "_seconds", "_events", "_entries", "_ratio", "_requests"];
        let metrics = words.filter(|word| word.starts_with("sluice_") && endings.iter().any(|end| word.ends_with(end)));
        let unknown: Vec<_> = metrics.filter(|name| !names.contains(name)).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}
