//! The documentation of the chart: the notes after installation, and the descriptions of the values.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::helm::{Objects, Release, chart, read};

#[test]
fn the_notes_bring_a_resource_that_can_be_pasted() {
    for (release, namespace) in [(Release::new(), "default"), (Release::new().set("namespaces={till,shop}"), "till")] {
        let notes = notes(release);
        let manifest =
            notes.split("<<EOF\n").nth(1).and_then(|rest| rest.split("\nEOF").next()).expect("a here-document");
        let resource: Value = serde_yaml::from_str(manifest).unwrap_or_else(|error| panic!("{error}:\n{notes}"));
        assert_eq!(resource["apiVersion"], "sluice.dev/v1alpha1");
        assert_eq!(resource["kind"], "EventAggregator");
        assert_eq!(resource["metadata"]["namespace"], namespace);
        let wait = format!("kubectl wait --for=condition=Ready --timeout=5m -n {namespace} eventaggregator/shop");
        assert!(notes.contains(&wait), "{notes}");
    }
}

#[test]
fn every_value_stands_in_the_table_of_the_docs() {
    let values: Value = serde_yaml::from_str(&read("charts/sluice/values.yaml")).expect("YAML");
    let docs = read("docs/install.md");
    for key in values.as_object().expect("values").keys() {
        let named = docs.lines().any(|line| {
            line.starts_with('|') && line.split('`').skip(1).step_by(2).any(|name| name.split('.').next() == Some(key))
        });
        assert!(named, "docs/install.md has no row for {key}");
    }
}

#[test]
fn every_value_is_explained_where_it_stands() {
    let values = read("charts/sluice/values.yaml");
    let mut explained = false;
    for line in values.lines() {
        if line.is_empty() {
            explained = false;
        } else if line.trim_start().starts_with('#') {
            explained = true;
        } else if !line.ends_with(':') {
            assert!(explained, "values.yaml has no comment for: {line}");
        }
    }
}

/// Returns the rendered notes. `helm template` does not render them and `helm install` needs a cluster, so this
/// adds a template that includes them to a copy of the chart.
fn notes(release: Release) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&chart(), folder.path());
    let shown = r#"notes: {{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}"#;
    fs::write(folder.path().join("templates/shown.yaml"), shown).expect("a template");
    let Objects(objects) = release.of(folder.path()).objects();
    objects.iter().find_map(|object| object["notes"].as_str()).expect("notes").to_owned()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("a folder");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a file");
        }
    }
}
