//! `--meters`: meters that are declared in a file.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use serde_json::Value;
use sluice_meter::definition::check_name;
use sluice_meter::{Definition, MAX_METERS};
use sluice_store::Store;
use sluice_store::meters::PutMeter;
use tokio_util::sync::CancellationToken;

use crate::declared_file::{DeclaredFile, Kind, list};
use crate::metrics;

static KIND: Kind<(String, Definition)> =
    Kind { name: "meters", max_bytes: 1 << 20, parse, show: metrics::meters_file };

/// The meters of a file.
#[derive(Debug)]
pub struct MetersFile(DeclaredFile<(String, Definition)>);

impl MetersFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, with the meter and the field.
    pub fn read(path: &Path) -> Result<Self, String> {
        DeclaredFile::read(&KIND, path).map(Self)
    }
}

/// Reads YAML or JSON: `meters` with a list of definitions, each with its name.
fn parse(content: &[u8]) -> Result<Vec<(String, Definition)>, String> {
    let list = list("meters", content)?;
    if list.len() > MAX_METERS {
        return Err(format!("it has more than {MAX_METERS} meters"));
    }
    let mut names = BTreeSet::new();
    let meter = |(index, meter): (usize, &Value)| {
        let of_meter = |error: String| format!("meters[{index}]: {error}");
        let mut fields = meter.as_object().cloned().ok_or_else(|| of_meter("must have fields".to_owned()))?;
        let name = match fields.remove("name") {
            Some(Value::String(name)) => name,
            _ => return Err(of_meter("name: must be a text".to_owned())),
        };
        check_name(&name).map_err(|error| of_meter(error.to_string()))?;
        if !names.insert(name.clone()) {
            return Err(of_meter(format!("name: {name} is there twice")));
        }
        let definition = Definition::parse(Value::from(fields).to_string().as_bytes());
        Ok((name, definition.map_err(|error| of_meter(error.to_string()))?))
    };
    list.iter().enumerate().map(meter).collect()
}

/// Puts the meters of a file into the store, and again whenever the file changes, until `stop`.
pub async fn keep(file: Option<MetersFile>, store: Arc<dyn Store>, stop: CancellationToken) {
    let Some(MetersFile(file)) = file else { return };
    let put = move |meters: Arc<[_]>| {
        let store = Arc::clone(&store);
        async move { put_all(&meters, &*store).await }.boxed()
    };
    file.keep(put, &stop).await;
}

/// Puts all meters. Returns whether it was done.
async fn put_all(meters: &[(String, Definition)], store: &dyn Store) -> bool {
    for (name, definition) in meters {
        match store.put_meter(name, definition).await {
            Ok(PutMeter::TooMany) => {
                tracing::error!(name, "there are {MAX_METERS} meters already, so this one of the file is not added");
            }
            Ok(put) => tracing::info!(name, ?put, "put a meter of the file"),
            Err(error) => {
                tracing::warn!(name, %error, "cannot put a meter of the file yet, trying again");
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_yaml_or_json_with_a_name_for_each_definition() {
        let yaml = b"meters:\n- name: a\n  aggregation: sum\n  value: /n\n- {name: b, aggregation: count}\n";
        let json = br#"{"meters":[{"name":"a","aggregation":"sum","value":"/n"},{"name":"b","aggregation":"count"}]}"#;
        let meters = parse(yaml).unwrap();
        assert_eq!(meters, parse(json).unwrap());
        assert_eq!(meters.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(parse(b"meters: []").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_meter_and_the_field() {
        for (yaml, says) in [
            ("", "it must have `meters`"),
            ("meters: {}", "it must have `meters`"),
            ("meters: []\nother: 1", "and nothing else"),
            ("meters: [1]", "meters[0]: must have fields"),
            ("meters: [{aggregation: count}]", "meters[0]: name: must be a text"),
            ("meters: [{name: A, aggregation: count}]", "meters[0]: name: must have"),
            (
                "meters: [{name: a, aggregation: count}, {name: a, aggregation: count}]",
                "meters[1]: name: a is there twice",
            ),
            ("meters: [{name: a, aggregation: mean}]", "meters[0]: aggregation: unknown variant `mean`"),
            ("meters: [{name: a, aggregation: sum}]", "meters[0]: value: is needed"),
        ] {
            let error = parse(yaml.as_bytes()).unwrap_err();
            assert!(error.contains(says), "{yaml}: {error}");
        }
    }
}
