//! What the operator says of a resource, and what it counts, is explained in the documentation.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const STATUS: &str = include_str!("../src/controller/status.rs");
const ERROR: &str = include_str!("../src/controller/error.rs");
const PROBLEMS: &str = include_str!("../src/controller/pod_problems.rs");
const CONDITIONS: &str = include_str!("../src/crd/status.rs");

/// Words of pods' statuses that are read and never repeated.
const READ: [&str; 5] = ["PodScheduled", "ContainerCreating", "PodInitializing", "ErrImagePull", "OOMKilled"];
/// What a condition's status can be.
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn operations() -> String {
    fs::read_to_string(root().join("docs/operations.md")).unwrap()
}

/// The words in quotes that look like a reason: `ImagePullBackOff`.
fn words(source: &str) -> impl Iterator<Item = &str> {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    quoted.filter(|word| {
        word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphabetic())
    })
}

#[test]
fn every_condition_and_every_reason_is_explained() {
    let docs = operations();
    let written: BTreeSet<_> = [STATUS, ERROR, PROBLEMS, CONDITIONS].into_iter().flat_map(words).collect();
    for known in ["PublisherReady", "AllReady", "Stalled", "SecretMissing", "ApiUnavailable", "CrashLoopBackOff"] {
        assert!(written.contains(known), "{known} is not found in the source any more");
    }
    let said = written.into_iter().filter(|word| !READ.contains(word) && !STATUSES.contains(word));
    let missing: Vec<_> = said.filter(|reason| !docs.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/operations.md says nothing of {missing:?}");
}

#[test]
fn every_metric_of_the_operator_is_explained() {
    let docs = operations();
    let metrics: Vec<_> = sluice_operator::metrics::ALL.iter().map(|metric| metric.name).collect();
    assert!(metrics.len() >= 5, "{metrics:?}");
    let missing: Vec<_> = metrics.into_iter().filter(|metric| !docs.contains(&format!("`{metric}"))).collect();
    assert!(missing.is_empty(), "docs/operations.md says nothing of {missing:?}");
}
