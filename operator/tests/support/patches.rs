//! What the API server does with the patches of an object, and the defaults that it adds.

use serde_json::{Value, json};

pub fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut object[name], value);
        }
    }
}

/// Applies `new` as server-side apply does: what `last` had and `new` has not is removed, and what others added
/// stays, also in lists whose items have a key.
pub fn apply(object: &mut Value, last: &Value, new: &Value) {
    match new {
        Value::Object(fields) => {
            if !object.is_object() {
                *object = json!({});
            }
            let dropped: Vec<_> = last.as_object().into_iter().flat_map(|last| last.keys()).collect();
            for name in dropped.into_iter().filter(|name| !fields.contains_key(*name)) {
                object.as_object_mut().unwrap().remove(name);
            }
            for (name, value) in fields {
                apply(&mut object[name], &last[name], value);
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| key(item).is_some()) => {
            let (wanted, dropped) = (keys(new), keys(last));
            let mut list = object.as_array().cloned().unwrap_or_default();
            list.retain(|item| !key(item).is_some_and(|key| dropped.contains(&key) && !wanted.contains(&key)));
            for item in items {
                let last = last.as_array().into_iter().flatten().find(|last| key(last) == key(item)).cloned();
                let last = last.unwrap_or_default();
                match list.iter_mut().find(|live| key(live) == key(item)) {
                    Some(live) => apply(live, &last, item),
                    None => list.push(item.clone()),
                }
            }
            *object = list.into();
        }
        _ => *object = new.clone(),
    }
}

/// Merges a strategic merge patch: lists whose items have a key are merged by it, and `$patch: replace` replaces an
/// object or a list as a whole.
pub fn strategic_merge(object: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            if !object.is_object() || fields.get("$patch") == Some(&json!("replace")) {
                *object = json!({});
            }
            for (name, value) in fields.iter().filter(|(name, _)| *name != "$patch") {
                if value.is_null() {
                    object.as_object_mut().unwrap().remove(name);
                } else {
                    strategic_merge(&mut object[name], value);
                }
            }
        }
        Value::Array(items) => {
            let (directives, items): (Vec<_>, Vec<_>) = items.iter().partition(|item| item.get("$patch").is_some());
            let keyed = !items.is_empty() && items.iter().all(|item| key(item).is_some());
            if !directives.is_empty() || !keyed {
                *object = items.into_iter().cloned().collect();
                return;
            }
            let mut list = object.as_array().cloned().unwrap_or_default();
            for item in items {
                match list.iter_mut().find(|live| key(live) == key(item)) {
                    Some(live) => strategic_merge(live, item),
                    None => list.push(item.clone()),
                }
            }
            *object = list.into();
        }
        _ => *object = patch.clone(),
    }
}

/// Returns the key by which an item of a list is merged.
fn key(item: &Value) -> Option<&str> {
    item.get("mountPath").or_else(|| item.get("name"))?.as_str()
}

fn keys(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(key).collect()
}

/// Keeps a number of replicas that an apply no longer has, if somebody else owns it too. Without another owner, the API
/// server takes a missing number for 1.
pub fn keep_replicas(object: &mut Value, before: &Value) {
    let Some(spec) = object["spec"].as_object_mut().filter(|spec| spec.contains_key("template")) else { return };
    if spec.contains_key("replicas") || before["spec"]["replicas"].is_null() {
        return;
    }
    let entries = before["metadata"]["managedFields"].as_array().into_iter().flatten();
    let owned = entries.into_iter().any(|entry| !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null());
    spec.insert("replicas".to_owned(), if owned { before["spec"]["replicas"].clone() } else { json!(1) });
}

/// Adds the entry of a field manager, as every write does. (The fields are left out.)
pub fn note_manager(object: &mut Value, manager: Option<&str>, operation: &str) {
    let Some(manager) = manager else { return };
    let entry = json!({"manager": manager, "operation": operation});
    let mut entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    if !entries.contains(&entry) {
        entries.push(entry);
    }
    object["metadata"]["managedFields"] = entries.into();
}

/// Adds what the API server adds to pod templates.
pub fn add_defaults(object: &mut Value) {
    let Some(pod) = object.pointer_mut("/spec/template/spec") else { return };
    for (name, value) in [("restartPolicy", "Always"), ("dnsPolicy", "ClusterFirst")] {
        default(Some(pod), name, json!(value));
    }
    for container in pod["containers"].as_array_mut().into_iter().flatten() {
        default(Some(container), "terminationMessagePath", json!("/dev/termination-log"));
        default(container.get_mut("securityContext"), "procMount", json!("Default"));
        for port in items_mut(container, "ports") {
            default(Some(port), "protocol", json!("TCP"));
        }
        for variable in items_mut(container, "env") {
            default(variable.pointer_mut("/valueFrom/fieldRef"), "apiVersion", json!("v1"));
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            default(container.get_mut(probe), "successThreshold", json!(1));
            default(container.pointer_mut(&format!("/{probe}/httpGet")), "scheme", json!("HTTP"));
        }
    }
}

fn items_mut<'a>(object: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn default(object: Option<&mut Value>, name: &str, value: Value) {
    if let Some(fields) = object.and_then(Value::as_object_mut) {
        fields.entry(name).or_insert(value);
    }
}
