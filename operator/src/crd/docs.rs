//! `docs/resource.md`, written from the schema.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};

/// The reference of the resource, as Markdown.
pub fn markdown() -> String {
    let crd = super::crd();
    let mut text = String::from(HEAD);
    let schema = crd.spec.versions.first().and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let properties = schema.and_then(|schema| schema.properties.as_ref());
    for (part, title) in [("spec", "## Spec"), ("status", "## Status")] {
        let Some(schema) = properties.and_then(|properties| properties.get(part)) else { continue };
        let _ = write!(text, "\n{title}\n\n| field | type | default | meaning |\n|---|---|---|---|\n");
        rows(&mut text, "", schema);
        let mut rules = Vec::new();
        collect_rules(part, schema, &mut rules);
        if !rules.is_empty() {
            text.push_str("\nThe API server refuses, with these words:\n\n");
            rules.iter().for_each(|rule| text.push_str(rule));
        }
    }
    text
}

const HEAD: &str = "# The resource EventAggregator

`sluice.dev/v1alpha1`, short name `eagg`. Written from the types by `sluice-operator docs`; do not
edit. What the conditions mean is in [operations.md](operations.md).

```yaml
apiVersion: sluice.dev/v1alpha1
kind: EventAggregator
metadata:
  name: shop
spec:
  aggregator:
    replicas: 3
```

That is enough: everything else has a default. A `managed` server is run by the operator; with
`external` it is there already, and `managed` is ignored. Its name is a DNS-1035 label of at most
40 characters.
";

fn rows(text: &mut String, prefix: &str, schema: &JSONSchemaProps) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{prefix}{name}");
        let meaning = property.description.as_deref().unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            text,
            "| `{path}` | {} | {} | {} |",
            type_of(property),
            default_of(property),
            meaning.replace('|', "\\|")
        );
        rows(text, &format!("{path}."), property);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &property.items {
            rows(text, &format!("{path}[]."), items);
        }
    }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    if let Some(values) = &schema.enum_ {
        return values.iter().map(|value| format!("`{}`", plain(&value.0))).collect::<Vec<_>>().join(" ");
    }
    match (schema.type_.as_deref().unwrap_or("any"), &schema.items) {
        ("array", Some(JSONSchemaPropsOrArray::Schema(items))) => format!("list of {}", type_of(items)),
        ("object", _) if schema.additional_properties.is_some() => "map".to_owned(),
        ("integer", _) => match (schema.minimum, schema.maximum) {
            (Some(least), Some(most)) => format!("integer {least} to {most}"),
            (Some(least), None) => format!("integer from {least}"),
            _ => "integer".to_owned(),
        },
        (other, _) => other.to_owned(),
    }
}

fn default_of(schema: &JSONSchemaProps) -> String {
    match &schema.default {
        Some(default) if default.0 != serde_json::json!({}) => format!("`{}`", plain(&default.0)),
        _ => String::new(),
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn collect_rules(path: &str, schema: &JSONSchemaProps, rules: &mut Vec<String>) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        rules.push(format!("- `{path}`: {}\n", rule.message.as_deref().unwrap_or(&rule.rule)));
    }
    for (name, property) in schema.properties.iter().flatten() {
        collect_rules(&format!("{path}.{name}"), property, rules);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_reference_is_what_the_types_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/resource.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == super::markdown(), "run: cargo run -p sluice-operator -- docs > docs/resource.md");
    }
}
