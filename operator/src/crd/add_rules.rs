//! Adds CEL rules to a schema.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use schemars::Schema;
use serde_json::{Value, json};

/// Adds rules to a schema. Each consists of an expression, the message when it is false, and the path of
/// the field.
pub(super) fn add(schema: &mut Schema, rules: &[(&str, &str, &str)]) {
    let rules = rules.iter().map(|(rule, message, path)| json!({"rule": rule, "message": message, "fieldPath": path}));
    schema.insert("x-kubernetes-validations".to_owned(), Value::Array(rules.collect()));
}

/// Returns rules of the root, which are not part of a schema that is derived. Each consists of an expression, the message
/// when it is false, and the path of the field.
pub(super) fn at_root(rules: &[(&str, &str, &str)]) -> Vec<ValidationRule> {
    let rule = |(rule, message, path): &(&str, &str, &str)| ValidationRule {
        rule: (*rule).to_owned(),
        message: Some((*message).to_owned()),
        field_path: Some((*path).to_owned()),
        ..ValidationRule::default()
    };
    rules.iter().map(rule).collect()
}
