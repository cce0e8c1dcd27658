//! The file of schemas: an aggregator that is given one that cannot be used does not start, so they are checked here.

use serde_json::Value;
use sluice_schema::{Definition, MAX_TOTAL_BYTES, Policy};

use super::error::{Error, Result};
use crate::crd::{EventAggregatorSpec, schemas};

/// The largest file: a ConfigMap has at most a MiB, in which the meters are too.
const MAX_FILE_BYTES: usize = 800 << 10;

/// Returns the file of the schemas of a resource, if it has any.
///
/// # Errors
/// [`Error::Invalid`] with the path of a schema that cannot be used.
pub(super) fn file(spec: &EventAggregatorSpec) -> Result<Option<String>> {
    if spec.schemas.is_empty() {
        return Ok(None);
    }
    let mut bytes = 0;
    for (index, schema) in spec.schemas.iter().enumerate() {
        let path = format!("spec.schemas[{index}]");
        if schema.topic.trim().is_empty() {
            return Err(Error::invalid(format!("{path}.topic"), "must not be blank"));
        }
        let definition = Definition::new(Policy::default(), &Value::Object(schema.schema.clone()));
        let definition =
            definition.map_err(|error| Error::invalid(format!("{path}.{}", error.field), error.to_string()))?;
        bytes += definition.schema().len();
    }
    let file = schemas::file(&spec.schemas);
    if bytes > MAX_TOTAL_BYTES || file.len() > MAX_FILE_BYTES {
        return Err(Error::invalid("spec.schemas", "is too large: put some of the schemas by the API"));
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::{SchemaPolicy, SchemaSpec};

    fn spec(schemas: &[(&str, Value)]) -> EventAggregatorSpec {
        let schema = |(topic, schema): &(&str, Value)| SchemaSpec {
            topic: (*topic).to_owned(),
            policy: SchemaPolicy::Count,
            schema: schema.as_object().cloned().unwrap_or_default(),
        };
        EventAggregatorSpec { schemas: schemas.iter().map(schema).collect(), ..EventAggregatorSpec::default() }
    }

    #[test]
    fn schemas_become_the_file_that_aggregators_read() {
        assert_eq!(file(&spec(&[])).unwrap(), None);
        let file = file(&spec(&[("orders", json!({"type": "object"}))])).unwrap().expect("a file");
        let expected = json!({"schemas": [{"topic": "orders", "policy": "count", "schema": {"type": "object"}}]});
        assert_eq!(serde_json::from_str::<Value>(&file).unwrap(), expected);
    }

    #[test]
    fn a_schema_that_no_aggregator_could_use_is_refused_with_its_path() {
        for (schemas, path, says) in [
            (vec![("a", json!({})), ("b", json!({"items": {"type": 1}}))], "spec.schemas[1].schema", "at /items/type"),
            (vec![("a", json!({"$ref": "https://example.com/x"}))], "spec.schemas[0].schema", "must begin with `#`"),
            (vec![(" ", json!({}))], "spec.schemas[0].topic", "must not be blank"),
        ] {
            let Err(Error::Invalid { field, message }) = file(&spec(&schemas)) else {
                panic!("{schemas:?} is accepted")
            };
            assert!(field == path && message.contains(says), "{field}: {message}");
        }
        let title = "x".repeat(60_000);
        let many: Vec<_> = (0..14).map(|n| format!("t{n}")).collect();
        let many: Vec<_> = many.iter().map(|topic| (topic.as_str(), json!({"title": title}))).collect();
        assert!(matches!(file(&spec(&many)), Err(Error::Invalid { field, .. }) if field == "spec.schemas"));
    }
}
