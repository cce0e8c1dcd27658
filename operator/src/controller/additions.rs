//! What others add to our containers and to the privileges of our pods. Server-side apply leaves the fields and list
//! items of other field managers in place, so it does not remove a variable or a privilege that somebody added. These
//! fields have exactly the desired value: a strategic merge patch replaces them as a whole.
//!
//! Everything else that others add to a pod template stays: labels, annotations, sidecars, init containers, volumes,
//! tolerations and node selectors.

use serde_json::{Value, json};

use super::drift::is_empty;

/// Fields of our containers to which nobody may add anything.
const OF_CONTAINER: [&str; 13] = [
    "args",
    "command",
    "env",
    "envFrom",
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "securityContext",
    "startupProbe",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];
/// Fields of our pods to which nobody may add anything.
const OF_POD: [&str; 5] = ["hostIPC", "hostNetwork", "hostPID", "securityContext", "shareProcessNamespace"];
/// The lists among the fields which a strategic merge patch merges by a key. It replaces all other lists.
const MERGED: [&str; 3] = ["env", "ports", "volumeMounts"];
/// Tells a strategic merge patch to replace an object or a list instead of merging it.
const DIRECTIVE: (&str, &str) = ("$patch", "replace");

/// Whether `live` has anything in these fields that `desired` does not have.
pub fn exist(desired: &Value, live: &Value) -> bool {
    let (Some(desired), Some(live)) = (pod_of(desired), pod_of(live)) else { return false };
    let exceeds_any = |fields: &[&str], desired: &Value, live: &Value| {
        fields.iter().any(|field| exceeds(&desired[field], &live[field], field))
    };
    exceeds_any(&OF_POD, desired, live)
        || pairs(desired, live).any(|(desired, live)| exceeds_any(&OF_CONTAINER, desired, live))
}

/// Returns the strategic merge patch that replaces these fields. It has the whole desired template, so that pods are
/// replaced once and not first with the old image.
pub fn removal(desired: &Value, live: &Value) -> Value {
    let mut template = desired["spec"]["template"].clone();
    if let Some(live) = pod_of(live) {
        replace(&mut template["spec"], live, &OF_POD);
        for container in template["spec"]["containers"].as_array_mut().into_iter().flatten() {
            if let Some(live) = named(live, &container["name"]) {
                replace(container, live, &OF_CONTAINER);
            }
        }
    }
    json!({ "spec": { "template": template } })
}

fn pod_of(object: &Value) -> Option<&Value> {
    object.pointer("/spec/template/spec")
}

/// Returns our containers, each with the live one of the same name.
fn pairs<'a>(desired: &'a Value, live: &'a Value) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    let containers = desired["containers"].as_array().into_iter().flatten();
    containers.filter_map(move |container| Some((container, named(live, &container["name"])?)))
}

fn named<'a>(pod: &'a Value, name: &Value) -> Option<&'a Value> {
    pod["containers"].as_array()?.iter().find(|container| container["name"] == *name)
}

/// Whether `live` has a field or an item that `desired` does not have. That a value differs is not looked at here.
fn exceeds(desired: &Value, live: &Value, field: &str) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => {
            live.iter().any(|(name, live)| exceeds(desired.get(name).unwrap_or(&Value::Null), live, name))
        }
        (Value::Array(desired), Value::Array(live)) => {
            let same = |desired: &&Value, live: &Value| {
                let names = ["mountPath", "name"].iter().find_map(|key| Some((desired.get(key)?, live.get(key)?)));
                names.is_some_and(|(desired, live)| desired == live)
            };
            live.len() > desired.len()
                || live.iter().any(|live| {
                    desired.iter().find(|desired| same(desired, live)).is_some_and(|desired| exceeds(desired, live, ""))
                })
        }
        (Value::Null, live) => !is_absent(live) && !is_default(field, live),
        _ => false,
    }
}

/// Whether a value means the same as no value.
fn is_absent(value: &Value) -> bool {
    is_empty(value) || *value == Value::Bool(false)
}

/// Whether the API server adds this value itself.
fn is_default(field: &str, value: &Value) -> bool {
    match field {
        "apiVersion" => value == "v1",
        "divisor" => value == "0",
        "failureThreshold" => value == 3,
        "path" => value == "/",
        "periodSeconds" => value == 10,
        "procMount" => value == "Default",
        "protocol" => value == "TCP",
        "scheme" => value == "HTTP",
        "successThreshold" | "timeoutSeconds" => value == 1,
        _ => false,
    }
}

/// Makes a strategic merge patch replace the fields of `desired` that `live` has.
fn replace(desired: &mut Value, live: &Value, fields: &[&str]) {
    let (key, word) = DIRECTIVE;
    for &field in fields.iter().filter(|field| live.get(**field).is_some_and(|live| !live.is_null())) {
        match desired.get_mut(field) {
            None | Some(Value::Null) => desired[field] = Value::Null,
            Some(Value::Object(fields)) => _ = fields.insert(key.to_owned(), word.into()),
            Some(Value::Array(items)) if MERGED.contains(&field) => items.insert(0, json!({ key: word })),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(container: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    }

    #[test]
    fn defaults_of_the_api_server_are_no_additions() {
        let desired = with(json!({
            "name": "x", "ports": [{"name": "http", "containerPort": 1}], "securityContext": {"capabilities": {"drop": ["ALL"]}},
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
            "livenessProbe": {"httpGet": {"port": "http"}}
        }));
        let live = with(json!({
            "name": "x", "ports": [{"name": "http", "containerPort": 1, "protocol": "TCP"}],
            "securityContext": {"capabilities": {"drop": ["ALL"]}, "procMount": "Default", "privileged": false},
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}],
            "livenessProbe": {"httpGet": {"port": "http", "path": "/", "scheme": "HTTP"}, "periodSeconds": 10,
                "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3},
            "resources": {}, "terminationMessagePath": "/dev/termination-log"
        }));
        assert!(!exist(&desired, &live));
    }

    #[test]
    fn a_second_variable_of_the_same_name_is_an_addition() {
        let desired = with(json!({"name": "x", "env": [{"name": "A", "value": "1"}]}));
        let live = with(json!({"name": "x", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}));
        assert!(exist(&desired, &live));
        let patch = removal(&desired, &live);
        let env = &patch["spec"]["template"]["spec"]["containers"][0]["env"];
        assert_eq!(*env, json!([{"$patch": "replace"}, {"name": "A", "value": "1"}]));
    }

    #[test]
    fn a_field_that_is_not_there_gets_no_directive() {
        let desired = with(json!({"name": "x", "env": [{"name": "A"}], "securityContext": {"privileged": true}}));
        let live = with(json!({"name": "x", "envFrom": [{"secretRef": {"name": "y"}}]}));
        let patch = removal(&desired, &live);
        let mut expected = desired["spec"]["template"]["spec"]["containers"][0].clone();
        expected["envFrom"] = Value::Null;
        assert_eq!(patch["spec"]["template"]["spec"]["containers"][0], expected);
    }
}
