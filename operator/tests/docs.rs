//! Compares the conditions, reasons and metrics of the operator with those that the documentation explains.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sluice_operator::controller::reason::Reason;
use sluice_operator::crd::ConditionType;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn operations() -> String {
    fs::read_to_string(root().join("docs/operations.md")).unwrap()
}

/// Returns the words in backticks in the first column of all tables whose header begins with `header`.
fn first_column(docs: &str, header: &str) -> BTreeSet<String> {
    let header = format!("| {header} |");
    let mut words = BTreeSet::new();
    let mut in_table = false;
    for line in docs.lines() {
        in_table = line.starts_with(&header) || in_table && line.starts_with('|');
        if in_table {
            let cell = line.split('|').nth(1).unwrap_or("");
            words.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    words
}

#[test]
fn the_reasons_in_the_documentation_are_exactly_those_of_the_operator() {
    let reported: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(reported.len(), Reason::ALL.len(), "a reason is listed twice");
    assert_eq!(first_column(&operations(), "reason"), reported, "docs/operations.md and controller/reason.rs differ");
}

#[test]
fn the_conditions_in_the_documentation_are_exactly_those_of_the_operator() {
    let reported: BTreeSet<_> = ConditionType::ALL.iter().map(|condition| condition.as_str().to_owned()).collect();
    assert_eq!(first_column(&operations(), "condition"), reported, "docs/operations.md and crd/status.rs differ");
}

/// Reasons are written as variants of the enum. The two tests above would not find a reason that the source
/// contains as a string, so there must be none except the words of Kubernetes.
#[test]
fn no_reason_is_written_as_text_in_the_source() {
    let mut sources = Vec::new();
    read(&root().join("operator/src/controller"), &mut sources);
    let code = sources.iter().map(|source| source.split("#[cfg(test)]").next().unwrap_or(""));
    let written: BTreeSet<_> = code.flat_map(|source| source.split('"').skip(1).step_by(2)).collect();
    let words = Reason::ALL.iter().map(|reason| reason.as_str()).filter(|word| written.contains(word));
    assert_eq!(words.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn every_metric_of_the_operator_is_explained() {
    let docs = operations();
    let metrics: Vec<_> = sluice_operator::metrics::ALL.iter().map(|metric| metric.name).collect();
    assert!(metrics.len() >= 5, "{metrics:?}");
    let missing: Vec<_> = metrics.into_iter().filter(|metric| !docs.contains(&format!("`{metric}"))).collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain {missing:?}");
}

/// Reads all files below a folder.
fn read(folder: &Path, sources: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            read(&entry, sources);
        } else {
            sources.push(fs::read_to_string(&entry).unwrap_or_default());
        }
    }
}
