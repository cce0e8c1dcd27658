//! Tests that the files in `samples` are valid resources.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::EventAggregator;
use super::schema::server::{defaulted, refusals};

/// Returns the samples by the names of their files.
fn samples() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    yaml.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut parsed: serde_yaml::Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        parsed.apply_merge().unwrap();
        (name, serde_json::to_value(parsed).unwrap())
    })
    .collect()
}

/// Returns the paths of all fields that an object has and its type does not.
fn unknown(path: &str, written: &Value, known: &Value, found: &mut Vec<String>) {
    match (written, known) {
        (Value::Object(written), _) => {
            for (name, value) in written {
                let path = format!("{path}.{name}");
                match known.get(name) {
                    Some(known) => unknown(&path, value, known, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(known)) => {
            for (index, (written, known)) in written.iter().zip(known).enumerate() {
                unknown(&format!("{path}[{index}]"), written, known, found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_sample_is_accepted_and_has_no_field_that_would_be_dropped() {
    let samples = samples();
    let names: BTreeSet<_> = samples.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains("minimal.yaml") && names.len() > 3, "{names:?}");
    for (name, sample) in samples {
        let parsed: EventAggregator = serde_json::from_value(sample.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut found = Vec::new();
        unknown("", &sample, &serde_json::to_value(&parsed).unwrap(), &mut found);
        found.retain(|path| path != ".spec");
        assert!(found.is_empty(), "{name}: {found:?}");
        assert_eq!(refusals(&defaulted(&sample), None), Vec::<String>::new(), "{name}");
    }
}
