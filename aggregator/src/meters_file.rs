//! `--meters`: meters that are declared in a file. Those in the file are put into the store, at the start and when the file
//! changes; none is removed by it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluice_meter::definition::check_name;
use sluice_meter::{Definition, MAX_METERS};
use sluice_service::backoff::Backoff;
use sluice_store::Store;
use sluice_store::meters::PutMeter;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::pause;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The largest file.
const MAX_BYTES: u64 = 1 << 20;

/// The meters of a file.
#[derive(Debug)]
pub struct MetersFile {
    path: PathBuf,
    content: Vec<u8>,
    meters: Vec<(String, Definition)>,
}

impl MetersFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, with the meter and the field.
    pub fn read(path: &Path) -> Result<Self, String> {
        let of_file = |error: String| format!("{}: {error}", path.display());
        let size = std::fs::metadata(path).map_err(|error| of_file(error.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(of_file(format!("it is larger than {MAX_BYTES} bytes")));
        }
        let content = std::fs::read(path).map_err(|error| of_file(error.to_string()))?;
        let meters = parse(&content).map_err(of_file)?;
        Ok(Self { path: path.to_owned(), content, meters })
    }

    /// Reads the file again if it has changed.
    fn changed(&self) -> Result<Option<Self>, String> {
        let changed = std::fs::read(&self.path).map_err(|error| error.to_string())? != self.content;
        if changed { Self::read(&self.path).map(Some) } else { Ok(None) }
    }
}

/// Reads YAML or JSON: `meters` with a list of definitions, each with its name.
fn parse(content: &[u8]) -> Result<Vec<(String, Definition)>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())?;
    let document: serde_json::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let list = match document.as_object().map(|object| (object.get("meters"), object.len())) {
        Some((Some(serde_json::Value::Array(list)), 1)) => list,
        _ => return Err("it must have `meters` with a list, and nothing else".to_owned()),
    };
    if list.len() > MAX_METERS {
        return Err(format!("it has more than {MAX_METERS} meters"));
    }
    let mut names = BTreeSet::new();
    let meter = |(index, meter): (usize, &serde_json::Value)| {
        let of_meter = |error: String| format!("meters[{index}]: {error}");
        let mut fields = meter.as_object().cloned().ok_or_else(|| of_meter("must have fields".to_owned()))?;
        let name = match fields.remove("name") {
            Some(serde_json::Value::String(name)) => name,
            _ => return Err(of_meter("name: must be a text".to_owned())),
        };
        check_name(&name).map_err(|error| of_meter(error.to_string()))?;
        if !names.insert(name.clone()) {
            return Err(of_meter(format!("name: {name} is there twice")));
        }
        let definition = Definition::parse(serde_json::Value::from(fields).to_string().as_bytes());
        Ok((name, definition.map_err(|error| of_meter(error.to_string()))?))
    };
    list.iter().enumerate().map(meter).collect()
}

/// Puts the meters of a file into the store, and again whenever the file changes, until `stop`. A file that cannot be used any
/// more changes nothing.
pub async fn keep(file: Option<MetersFile>, store: Arc<dyn Store>, stop: CancellationToken) {
    let Some(mut file) = file else { return };
    metrics::meters_file(true);
    let mut unusable: Option<String> = None;
    let mut backoff = Backoff::new(Duration::from_millis(200), LOOK_EVERY);
    loop {
        while !put_all(&file, &*store).await {
            if !pause(backoff.next(), &stop).await {
                return;
            }
        }
        backoff.reset();
        file = loop {
            if !pause(LOOK_EVERY, &stop).await {
                return;
            }
            let problem = match file.changed() {
                Ok(Some(changed)) => break changed,
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if problem != unusable
                && let Some(error) = &problem
            {
                tracing::error!(error, "the file of meters cannot be used; the meters stay as they are");
            }
            metrics::meters_file(problem.is_none());
            unusable = problem;
        };
        metrics::meters_file(true);
    }
}

/// Puts all meters. Returns whether it was done.
async fn put_all(file: &MetersFile, store: &dyn Store) -> bool {
    for (name, definition) in &file.meters {
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
