//! Tests that each CEL rule can be evaluated, whatever is left out of an object.

use kube_cel::{ErrorKind, Validator};
use serde_json::{Value, json};

use super::schema::server::schema;

/// An error of evaluation would replace the message, and would also refuse valid objects.
#[test]
fn no_rule_fails_with_an_error_whatever_is_left_out() {
    let mut rules = Vec::new();
    with_rules("", schema(), &mut rules);
    let mut checked = 0;
    for (path, node) in &rules {
        let variants = variants(path, node);
        let bare = without_defaults(node);
        for new in &variants {
            for old in [None].into_iter().chain(variants.iter().map(Some)) {
                // On an update both objects are stored objects, which have their defaults. On creation a
                // rule is also evaluated against the default of its parent, whose fields have none.
                let node = if old.is_none() && node.get("default").is_some() { &bare } else { node };
                checked += 1;
                let Err(errors) = Validator::new().validate(node, new, old) else { continue };
                for error in errors.iter() {
                    assert_eq!(error.kind, ErrorKind::ValidationFailure, "{path}: {new} after {old:?}: {error:?}");
                }
            }
        }
    }
    assert!(rules.len() >= 6 && checked > 100, "{} schemas with rules, {checked} objects", rules.len());
}

/// Collects the schemas that have rules, each with its path, and without the rules of the schemas within it, which
/// are collected too.
fn with_rules(path: &str, schema: &Value, found: &mut Vec<(String, Value)>) {
    if schema.get("x-kubernetes-validations").is_some() {
        let mut alone = schema.clone();
        for property in alone["properties"].as_object_mut().into_iter().flat_map(|properties| properties.values_mut()) {
            without_rules(property);
        }
        // Components have schemas in common.
        if found.iter().all(|(_, other)| *other != alone) {
            found.push((path.to_owned(), alone));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        with_rules(&format!("{path}.{name}"), property, found);
    }
    if let Some(items) = schema.get("items") {
        with_rules(&format!("{path}[]"), items, found);
    }
}

fn without_rules(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("x-kubernetes-validations");
    for (_, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        without_rules(property);
    }
    if let Some(items) = schema.get_mut("items") {
        without_rules(items);
    }
}

/// Returns objects with all fields, with each single field left out, and with none. Required fields stay.
fn variants(path: &str, schema: &Value) -> Vec<Value> {
    let mut full = sample(schema);
    if path.is_empty() {
        full["metadata"] = json!({"name": "shop"});
    }
    let names: Vec<_> = full.as_object().unwrap().keys().cloned().collect();
    let required = |name: &String| {
        name == "metadata" || schema["required"].as_array().into_iter().flatten().any(|field| field == name)
    };
    let without = |left_out: &dyn Fn(&String) -> bool| {
        let mut object = full.clone();
        object.as_object_mut().unwrap().retain(|name, _| required(name) || !left_out(name));
        object
    };
    let mut variants: Vec<_> = names.iter().map(|one| without(&|name| name == one)).collect();
    variants.extend([without(&|_| true), full.clone()]);
    variants
}

/// Returns a value of the schema's type with all its fields.
fn sample(schema: &Value) -> Value {
    match schema["type"].as_str() {
        // The default of a quantity is a valid quantity, and "x" is not.
        Some("string") if schema["default"].is_string() => schema["default"].clone(),
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            fields.map(|(name, field)| (name.clone(), sample(field))).collect()
        }
        Some("array") => json!([sample(&schema["items"])]),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        _ => json!("x"),
    }
}

fn without_defaults(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("default");
        for (_, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
            *property = without_defaults(property);
        }
    }
    schema
}
