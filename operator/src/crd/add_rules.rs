//! Adds CEL rules to a schema.

use schemars::Schema;
use serde_json::{Value, json};

/// Adds rules to a schema. Each consists of an expression, the message when it is false, and the path of
/// the field.
pub(super) fn add(schema: &mut Schema, rules: &[(&str, &str, &str)]) {
    let rules = rules.iter().map(|(rule, message, path)| json!({"rule": rule, "message": message, "fieldPath": path}));
    schema.insert("x-kubernetes-validations".to_owned(), Value::Array(rules.collect()));
}
