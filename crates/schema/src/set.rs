//! The schemas that are in force, as they are told to the publishers: a document, and what it is compiled to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::definition::Policy;
use crate::validator::{Validator, Violation};

/// The largest number of topics that have a schema.
pub const MAX_SCHEMAS: usize = 100;
/// The largest size of all schemas in force together, as compact JSON.
pub const MAX_TOTAL_BYTES: usize = 1 << 20;

/// A schema that is in force, as the document has it.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'a> {
    /// The name of its topic.
    pub topic: &'a str,
    /// Its number among those of the topic.
    pub version: u32,
    /// What becomes of events that do not match.
    pub policy: Policy,
    /// The schema, as JSON.
    pub schema: &'a str,
}

#[derive(Serialize)]
struct Written<'a> {
    schemas: Vec<WrittenSchema<'a>>,
}

#[derive(Serialize)]
struct WrittenSchema<'a> {
    topic: &'a str,
    version: u32,
    policy: Policy,
    schema: &'a RawValue,
}

#[derive(Deserialize)]
struct Read {
    schemas: Vec<Value>,
}

#[derive(Deserialize)]
struct ReadSchema {
    topic: String,
    version: u32,
    policy: Policy,
    schema: Value,
}

/// A compiled schema of a topic.
#[derive(Debug)]
pub struct TopicSchema {
    /// Its number among those of the topic.
    pub version: u32,
    /// What becomes of events that do not match.
    pub policy: Policy,
    validator: Validator,
    /// The payloads that did not match, since they were last taken.
    violations: AtomicU64,
}

impl TopicSchema {
    /// Checks a payload, and counts it if it does not match.
    ///
    /// # Errors
    /// The first place where it does not match.
    pub fn check(&self, payload: &str) -> Result<(), Violation> {
        let checked = self.validator.check(payload);
        if checked.is_err() {
            self.violations.fetch_add(1, Ordering::Relaxed);
        }
        checked
    }
}

/// All schemas that are in force, by their topics.
#[derive(Debug, Default)]
pub struct Schemas(HashMap<String, TopicSchema>);

impl Schemas {
    /// Returns the document of these schemas. Equal schemas have equal documents, if they are in the same order.
    ///
    /// # Errors
    /// When a schema is no JSON.
    pub fn document<'a>(schemas: impl IntoIterator<Item = InForce<'a>>) -> Result<Vec<u8>, String> {
        let written = schemas.into_iter().map(|InForce { topic, version, policy, schema }| {
            Ok(WrittenSchema { topic, version, policy, schema: serde_json::from_str(schema)? })
        });
        let written = written.collect::<Result<_, serde_json::Error>>();
        written.and_then(|schemas| serde_json::to_vec(&Written { schemas })).map_err(|error| error.to_string())
    }

    /// Compiles the schemas of a document. Those that cannot be used, because a newer version has put them, are left out: also
    /// returns why, in words.
    ///
    /// # Errors
    /// When it is no such document.
    pub fn compile(document: &[u8]) -> Result<(Self, Vec<String>), String> {
        let Read { schemas } = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        let (mut compiled, mut unusable) = (HashMap::new(), Vec::new());
        for schema in schemas {
            match compile_one(&schema) {
                Ok((topic, schema)) => _ = compiled.insert(topic, schema),
                Err(error) => {
                    let topic = schema.get("topic").and_then(Value::as_str).unwrap_or_default();
                    unusable.push(format!("the schema of topic {topic} cannot be used: {error}"));
                }
            }
        }
        Ok((Self(compiled), unusable))
    }

    /// Returns how many payloads did not match since the last call, by the topic and the version of the schema.
    pub fn take_violations(&self) -> Vec<(&str, u32, u64)> {
        let taken = self
            .0
            .iter()
            .map(|(topic, schema)| (topic.as_str(), schema.version, schema.violations.swap(0, Ordering::Relaxed)));
        taken.filter(|(.., violations)| *violations > 0).collect()
    }

    /// Returns the schema of a topic, if it has one.
    pub fn of(&self, topic: &str) -> Option<&TopicSchema> {
        self.0.get(topic)
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether no topic has a schema.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn compile_one(schema: &Value) -> Result<(String, TopicSchema), String> {
    let ReadSchema { topic, version, policy, schema } =
        ReadSchema::deserialize(schema).map_err(|error| error.to_string())?;
    let validator = Validator::compile(&schema).map_err(|error| error.to_string())?;
    Ok((topic, TopicSchema { version, policy, validator, violations: AtomicU64::new(0) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_compiled_to_what_it_was_made_of() {
        let orders = InForce { topic: "orders", version: 3, policy: Policy::Refuse, schema: r#"{"type":"object"}"# };
        let bills = InForce { topic: "bills", version: 1, policy: Policy::Count, schema: "false" };
        let document = Schemas::document([orders, bills]).unwrap();
        let (schemas, unusable) = Schemas::compile(&document).unwrap();
        assert_eq!((schemas.len(), unusable), (2, Vec::new()));
        let (orders, bills) = (schemas.of("orders").unwrap(), schemas.of("bills").unwrap());
        assert_eq!((orders.version, orders.policy, bills.policy), (3, Policy::Refuse, Policy::Count));
        assert!(orders.check("{}").is_ok() && orders.check("1").is_err() && bills.check("1").is_err());
        let mut violations = schemas.take_violations();
        violations.sort_unstable();
        assert_eq!(violations, [("bills", 1, 1), ("orders", 3, 1)]);
        assert!(schemas.of("other").is_none() && schemas.take_violations().is_empty());
        assert!(Schemas::compile(&Schemas::document([]).unwrap()).unwrap().0.is_empty());
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_left_out_and_named() {
        let document = r#"{"schemas":[{"topic":"a","version":7,"policy":"count","schema":{"type":1}},
            {"topic":"b","version":1,"policy":"warn","schema":true},
            {"topic":"c","version":1,"policy":"refuse","schema":false,"of":"a later version"}]}"#;
        let (schemas, unusable) = Schemas::compile(document.as_bytes()).unwrap();
        assert!(schemas.len() == 1 && schemas.of("c").is_some());
        assert!(unusable[0].starts_with("the schema of topic a cannot be used: schema at /type"), "{unusable:?}");
        assert!(unusable[1].starts_with("the schema of topic b cannot be used: unknown variant"), "{unusable:?}");
        for document in ["", "{}", "[]"] {
            assert!(Schemas::compile(document.as_bytes()).is_err(), "{document}");
        }
    }
}
