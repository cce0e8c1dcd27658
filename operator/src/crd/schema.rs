//! The CustomResourceDefinition, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::pods::AS_IN_A_POD;
use super::rules;
use super::spec::EventAggregator;

/// Returns the CustomResourceDefinition.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = EventAggregator::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            empty_defaults(schema);
            describe_briefly(schema);
            shorten(schema);
            schema.x_kubernetes_validations = Some(rules::root());
        }
    }
    crd
}

/// Returns the CustomResourceDefinition as YAML.
///
/// # Errors
/// When it cannot be serialized as YAML, which its types rule out.
pub fn yaml() -> Result<String, serde_yaml::Error> {
    // It is converted to a value first, because the maps of a value are sorted: the text then changes only when
    // the types change.
    serde_yaml::to_string(&serde_yaml::to_value(crd())?)
}

/// Replaces the default of every parent by `{}`. Its fields have their own defaults, so each default is
/// written once, and a parent with only some of its fields gets the others.
fn empty_defaults(schema: &mut JSONSchemaProps) {
    if let Some(JSON(default)) = &mut schema.default
        && default.is_object()
        && schema.properties.is_some()
    {
        *default = serde_json::json!({});
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        empty_defaults(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        empty_defaults(items);
    }
}

/// Removes the descriptions within the types of a pod in Kubernetes, which are longer than all else and exist for each
/// component. Names get a limit, without which the API server takes a rule about them for too expensive.
fn describe_briefly(schema: &mut JSONSchemaProps) {
    for (name, property) in schema.properties.iter_mut().flatten() {
        if name == "pods" {
            let fields = property.properties.iter_mut().flatten();
            for (_, field) in fields.filter(|(name, _)| AS_IN_A_POD.contains(&name.as_str())) {
                let description = field.description.take();
                without_descriptions(field);
                field.description = description;
            }
            limit_names(property);
        } else {
            describe_briefly(property);
        }
    }
}

fn limit_names(pods: &mut JSONSchemaProps) {
    let env = pods.properties.as_mut().and_then(|properties| properties.get_mut("env"));
    let Some(JSONSchemaPropsOrArray::Schema(variable)) = env.and_then(|env| env.items.as_mut()) else { return };
    if let Some(name) = variable.properties.as_mut().and_then(|properties| properties.get_mut("name")) {
        (name.min_length, name.max_length) = (Some(1), Some(253));
    }
}

fn without_descriptions(schema: &mut JSONSchemaProps) {
    schema.description = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(without_descriptions);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        without_descriptions(items);
    }
}

/// Removes the description of each quantity in a map: the two thousand characters that Kubernetes has for the type would
/// hide all else that `kubectl explain` prints.
fn shorten(schema: &mut JSONSchemaProps) {
    if let Some(JSONSchemaPropsOrBool::Schema(amount)) = &mut schema.additional_properties
        && amount.x_kubernetes_int_or_string == Some(true)
    {
        amount.description = None;
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        shorten(property);
    }
}

/// What the API server does with the schema, for tests.
#[cfg(test)]
pub(crate) mod server {
    use std::sync::LazyLock;

    use kube_cel::{Validator, apply_defaults};
    use serde_json::{Value, json};

    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        serde_json::to_value(super::crd()).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
    });

    pub(crate) fn schema() -> &'static Value {
        &SCHEMA
    }

    /// The object with its defaults, also those within defaults.
    pub(crate) fn defaulted(object: &Value) -> Value {
        let once = apply_defaults(schema(), object);
        if once == *object { once } else { defaulted(&once) }
    }

    /// The object of this name and spec, with its defaults.
    pub(crate) fn object(name: &str, spec: Value) -> Value {
        defaulted(&json!({"metadata": {"name": name}, "spec": spec}))
    }

    /// Returns the messages with which the API server would refuse `new`, which replaces `old` if that is given.
    pub(crate) fn refusals(new: &Value, old: Option<&Value>) -> Vec<String> {
        match Validator::new().validate(schema(), new, old) {
            Ok(()) => Vec::new(),
            Err(errors) => errors.iter().map(|error| error.message.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::AS_IN_A_POD;
    use super::server::{defaulted, schema};
    use crate::crd::{EventAggregatorSpec, crd, yaml};

    #[test]
    fn the_committed_yaml_is_what_the_types_say() {
        let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/crd.yaml")).unwrap_or_default();
        assert!(committed == yaml().unwrap(), "run: cargo run -p sluice-operator -- crd > operator/crd.yaml");
    }

    #[test]
    fn the_api_server_and_the_types_have_the_same_defaults() {
        let defaulted = defaulted(&json!({"metadata": {"name": "shop"}, "spec": {}}));
        let ours = serde_json::to_value(EventAggregatorSpec::default()).unwrap();
        let parsed: EventAggregatorSpec = serde_json::from_value(json!({})).unwrap();
        assert_eq!(serde_json::to_value(parsed).unwrap(), ours);
        assert_eq!(defaulted["spec"], ours);
    }

    #[test]
    fn a_resource_without_a_spec_field_filled_in_is_enough() {
        let defaulted = defaulted(&json!({"spec": {"aggregator": {"replicas": 3}}}));
        assert_eq!(defaulted["spec"]["aggregator"]["workers"], 2);
        assert_eq!(defaulted["spec"]["redis"]["managed"]["storage"]["size"], "8Gi");
        assert_eq!(defaulted["spec"]["networkPolicy"]["dns"]["podLabels"]["k8s-app"], "kube-dns");
    }

    #[test]
    fn every_field_has_a_description_and_integers_a_format_that_openapi_knows() {
        fn walk(path: &str, schema: &Value, missing: &mut Vec<String>) {
            let format = schema["format"].as_str().unwrap_or("");
            assert!(!format.starts_with("uint"), "{path}: {format}");
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                if property["description"].is_null() {
                    missing.push(path.clone());
                }
                if path.contains(".pods.") && AS_IN_A_POD.contains(&name.as_str()) {
                    continue;
                }
                walk(&path, property, missing);
            }
            if !schema["items"].is_null() {
                walk(&format!("{path}[]"), &schema["items"], missing);
            }
        }
        let mut missing = Vec::new();
        let schema = schema();
        walk("spec", &schema["properties"]["spec"], &mut missing);
        walk("status", &schema["properties"]["status"], &mut missing);
        assert!(missing.is_empty(), "{missing:?}");
    }

    /// `kubectl explain` prints them.
    #[test]
    fn descriptions_are_short_enough_to_be_read() {
        fn walk(path: &str, schema: &Value, long: &mut Vec<String>) {
            if schema.is_null() {
                return;
            }
            let length = schema["description"].as_str().map_or(0, str::len);
            if length > 400 {
                long.push(format!("{path}: {length}"));
            }
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                walk(&format!("{path}.{name}"), property, long);
            }
            for inner in ["items", "additionalProperties"] {
                walk(&format!("{path}.{inner}"), &schema[inner], long);
            }
        }
        let mut long = Vec::new();
        // The schema of a condition is that of Kubernetes.
        let mut schema = schema().clone();
        schema["properties"]["status"]["properties"]["conditions"] = Value::Null;
        walk("", &schema, &mut long);
        assert!(long.is_empty(), "{long:?}");
    }

    #[test]
    fn it_can_be_scaled_and_its_conditions_are_merged_by_type() {
        let crd = serde_json::to_value(crd()).unwrap();
        let version = &crd["spec"]["versions"][0];
        assert_eq!(
            version["subresources"]["scale"],
            json!({
                "specReplicasPath": ".spec.aggregator.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector"
            })
        );
        let conditions = &schema()["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
        let columns: Vec<_> = version["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|column| column["priority"].as_i64().unwrap_or(0) == 0)
            .map(|column| column["name"].as_str().unwrap())
            .collect();
        assert_eq!(columns, ["Ready", "Replicas", "Backlog", "Age"]);
    }
}
