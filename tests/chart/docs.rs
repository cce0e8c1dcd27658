//! The documentation of the chart: the notes after installation, and the descriptions of the values.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::helm::{Objects, Release, chart, leaves, read};

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

/// `make lint` compares the README with what the generator makes of values.yaml. This needs no generator.
#[test]
fn every_value_has_a_row_with_a_description_in_the_readme_and_no_other_has() {
    let values: Value = serde_yaml::from_str(&read("charts/sluice/values.yaml")).expect("YAML");
    let mut paths = BTreeSet::new();
    leaves("", &values, &mut paths);
    let readme = read("charts/sluice/README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    let described: BTreeSet<String> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            assert!(cells.last().is_some_and(|text| text.len() > 10), "no description: {row}");
            cells[0].trim_end_matches('`').to_owned()
        })
        .collect();
    assert_eq!(described, paths, "charts/sluice/README.md: `make chart-docs` generates it");
    assert!(read("docs/install.md").contains("(../charts/sluice/README.md)"), "docs/install.md has no link to it");
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
