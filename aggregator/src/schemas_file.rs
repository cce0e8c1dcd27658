//! `--schemas`: schemas of topics that are declared in a file.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use serde_json::Value;
use sluice_schema::{Definition, MAX_SCHEMAS};
use sluice_store::inspect::Inspect;
use sluice_store::schemas::PutSchema;
use tokio_util::sync::CancellationToken;

use crate::declared_file::{DeclaredFile, Kind, list};
use crate::{metrics, topic_name};

static KIND: Kind<(String, Definition)> =
    Kind { name: "schemas", max_bytes: 4 << 20, parse, show: metrics::schemas_file };

/// The schemas of a file.
#[derive(Debug)]
pub struct SchemasFile(DeclaredFile<(String, Definition)>);

impl SchemasFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, with the schema and the place in it.
    pub fn read(path: &Path) -> Result<Self, String> {
        DeclaredFile::read(&KIND, path).map(Self)
    }
}

/// Reads YAML or JSON: `schemas` with a list of definitions, each with its topic.
fn parse(content: &[u8]) -> Result<Vec<(String, Definition)>, String> {
    let list = list("schemas", content)?;
    if list.len() > MAX_SCHEMAS {
        return Err(format!("it has more than {MAX_SCHEMAS} schemas"));
    }
    let mut topics = BTreeSet::new();
    let schema = |(index, schema): (usize, &Value)| {
        let of_schema = |error: String| format!("schemas[{index}]: {error}");
        let mut fields = schema.as_object().cloned().ok_or_else(|| of_schema("must have fields".to_owned()))?;
        let topic = match fields.remove("topic") {
            Some(Value::String(topic)) => topic,
            _ => return Err(of_schema("topic: must be a text".to_owned())),
        };
        topic_name::check(&topic).map_err(|error| of_schema(format!("topic: {error}")))?;
        if !topics.insert(topic.clone()) {
            return Err(of_schema(format!("topic: {topic} is there twice")));
        }
        let definition = Definition::parse(Value::from(fields).to_string().as_bytes());
        Ok((topic, definition.map_err(|error| of_schema(error.to_string()))?))
    };
    list.iter().enumerate().map(schema).collect()
}

/// Puts the schemas of a file into the store, and again whenever the file changes, until `stop`.
pub async fn keep(file: Option<SchemasFile>, store: Arc<dyn Inspect>, stop: CancellationToken) {
    let Some(SchemasFile(file)) = file else { return };
    let put = move |schemas: Arc<[_]>| {
        let store = Arc::clone(&store);
        async move { put_all(&schemas, &*store).await }.boxed()
    };
    file.keep(put, &stop).await;
}

/// Puts the schemas of a file into the store, once.
///
/// # Errors
/// When the store does not take them.
pub async fn put_once(file: &SchemasFile, store: &dyn Inspect) -> anyhow::Result<()> {
    anyhow::ensure!(put_all(file.0.items(), store).await, "the schemas of the file cannot be put into the store");
    Ok(())
}

/// Puts all schemas. Returns whether it was done.
async fn put_all(schemas: &[(String, Definition)], store: &dyn Inspect) -> bool {
    for (topic, definition) in schemas {
        match store.put_schema(topic, definition).await {
            Ok(put @ (PutSchema::TooMany | PutSchema::TooLarge)) => {
                tracing::error!(
                    topic,
                    ?put,
                    "this schema of the file is not put: there are too many, or they are too large"
                );
            }
            Ok(put) => tracing::info!(topic, ?put, "put a schema of the file"),
            Err(error) => {
                tracing::warn!(topic, %error, "cannot put a schema of the file yet, trying again");
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
    fn a_file_is_yaml_or_json_with_a_topic_for_each_definition() {
        let yaml = b"schemas:\n- topic: a b\n  schema:\n    type: object\n    required: [id]\n- {topic: c, policy: count, schema: true}\n";
        let json = br#"{"schemas":[{"topic":"a b","schema":{"type":"object","required":["id"]}},
            {"topic":"c","policy":"count","schema":true}]}"#;
        let schemas = parse(yaml).unwrap();
        assert_eq!(schemas, parse(json).unwrap());
        assert_eq!(schemas.iter().map(|(topic, _)| &**topic).collect::<Vec<_>>(), ["a b", "c"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_schema_and_the_place() {
        for (yaml, says) in [
            ("schemas: {}", "it must have `schemas`"),
            ("schemas: [1]", "schemas[0]: must have fields"),
            ("schemas: [{schema: true}]", "schemas[0]: topic: must be a text"),
            ("schemas: [{topic: ' ', schema: true}]", "schemas[0]: topic: must not be blank"),
            ("schemas: [{topic: a}]", "schemas[0]: missing field `schema`"),
            ("schemas: [{topic: a, schema: true}, {topic: a, schema: true}]", "schemas[1]: topic: a is there twice"),
            ("schemas: [{topic: a, schema: {items: {minimum: x}}}]", "schemas[0]: schema at /items/minimum: "),
        ] {
            let error = parse(yaml.as_bytes()).unwrap_err();
            assert!(error.starts_with(says), "{yaml}: {error}");
        }
    }
}
