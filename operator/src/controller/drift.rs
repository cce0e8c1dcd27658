//! Decides whether an object has drifted and must be applied. Applying an unchanged object would still be a
//! write request, so in a steady state nothing must be applied.
//!
//! An object has not drifted when it contains everything that is desired, including the annotation with
//! the hash of the desired object. (Without the hash, a field that is no longer desired would stay.)
//! Fields that others added, such as defaults of the API server and labels of users, do not count here. In some
//! fields of our containers they do: see `additions`.

use serde_json::Value;

use crate::quantity;

/// Whether `live` lacks anything of `desired`.
pub fn has_drifted(desired: &Value, live: &Value) -> bool {
    !contains(live, desired, "")
}

fn contains(live: &Value, desired: &Value, field: &str) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) if is_selector(field) && live.len() > desired.len() => false,
        (Value::Object(desired), Value::Object(live)) => desired.iter().all(|(key, value)| match live.get(key) {
            Some(live) => contains(live, value, if is_amounts(field) { field } else { key }),
            None => is_empty(value),
        }),
        (Value::Array(desired), Value::Array(live)) if is_rules(field) => {
            contains_items(live, desired, "") && contains_items(desired, live, "")
        }
        (Value::Array(desired), Value::Array(live)) => contains_items(live, desired, field),
        (Value::String(desired), Value::String(live)) if is_amounts(field) => {
            desired == live || quantity::same(desired, live)
        }
        _ => desired == live || (is_empty(desired) && is_empty(live)),
    }
}

/// Whether a list contains the desired items. Lists whose items have names are merged by name, and others
/// may add items. Any other list is compared as one value.
fn contains_items(live: &[Value], desired: &[Value], field: &str) -> bool {
    let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
    if !desired.is_empty() && desired.iter().all(|item| name(item).is_some()) {
        return desired.iter().all(|item| {
            let wanted = name(item);
            live.iter().any(|live| name(live) == wanted && contains(live, item, field))
        });
    }
    live.len() == desired.len() && live.iter().zip(desired).all(|(live, desired)| contains(live, desired, field))
}

/// Selectors are compared as one value: an additional label selects other pods.
fn is_selector(field: &str) -> bool {
    matches!(field, "selector" | "matchLabels" | "podSelector" | "namespaceSelector" | "labelSelector")
}

/// The rules of a NetworkPolicy are compared as one value too: whatever is added to a rule can open a
/// connection that must stay closed.
fn is_rules(field: &str) -> bool {
    matches!(field, "ingress" | "egress")
}

/// Whether the texts below this field are quantities, which can be written in several forms.
fn is_amounts(field: &str) -> bool {
    matches!(field, "requests" | "limits" | "sizeLimit")
}

/// Whether a value is empty. The API server leaves out empty values.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_is_no_drift() {
        let desired = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "x", "env": []}]}});
        let live = json!({
            "metadata": {"labels": {"a": "1", "team": "shop"}, "uid": "u"},
            "spec": {"containers": [{"name": "x", "terminationMessagePath": "/dev/termination-log"}, {"name": "sidecar"}]},
            "status": {}
        });
        assert!(!has_drifted(&desired, &live));
    }

    #[test]
    fn what_is_missing_or_changed_is_drift() {
        let desired = json!({"spec": {"replicas": 3, "ports": [{"name": "http", "port": 80}], "args": ["run"]}});
        for live in [
            json!({"spec": {"replicas": 2, "ports": [{"name": "http", "port": 80}], "args": ["run"]}}),
            json!({"spec": {"replicas": 3, "ports": [{"name": "http", "port": 81}], "args": ["run"]}}),
            json!({"spec": {"replicas": 3, "ports": [{"name": "http", "port": 80}], "args": ["run", "-v"]}}),
            json!({"spec": {"replicas": 3, "ports": [], "args": ["run"]}}),
            json!({"spec": {"replicas": 3, "args": ["run"]}}),
        ] {
            assert!(has_drifted(&desired, &live), "{live}");
        }
    }

    #[test]
    fn whatever_is_added_to_a_policys_rules_is_drift() {
        let shut = json!({"spec": {"egress": [], "ingress": []}});
        assert!(!has_drifted(&shut, &json!({"spec": {}})));
        assert!(has_drifted(&shut, &json!({"spec": {"egress": [{}]}})));
        let rule = json!({"from": [{"podSelector": {"matchLabels": {"app": "x"}}}], "ports": [{"port": 1}]});
        let one = json!({"spec": {"ingress": [rule]}});
        assert!(!has_drifted(&one, &one.clone()));
        assert!(has_drifted(&one, &json!({"spec": {"ingress": [rule, {}]}})));
        let mut wider = one.clone();
        wider["spec"]["ingress"][0]["from"][0]["namespaceSelector"] = json!({"matchLabels": {"team": "y"}});
        assert!(has_drifted(&one, &wider));
    }

    #[test]
    fn an_additional_label_in_a_selector_is_drift() {
        let desired = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"selector": {"app": "x"}}});
        let mut live = json!({"metadata": {"labels": {"app": "x", "team": "y"}}, "spec": {"selector": {"app": "x"}}});
        assert!(!has_drifted(&desired, &live));
        live["spec"]["selector"]["team"] = json!("y");
        assert!(has_drifted(&desired, &live));
        let all = json!({"spec": {"podSelector": {"matchLabels": {"app": "x"}}}});
        let fewer = json!({"spec": {"podSelector": {"matchLabels": {"app": "x", "team": "y"}}}});
        assert!(has_drifted(&all, &fewer));
    }

    #[test]
    fn amounts_may_be_written_differently_and_nothing_else_may() {
        let of = |size: &str| json!({"resources": {"requests": {"storage": size, "cpu": "0.5"}}, "name": size});
        let mut live = json!({"resources": {"requests": {"storage": "1Gi", "cpu": "500m"}}, "name": "1024Mi"});
        assert!(!has_drifted(&of("1024Mi"), &live));
        live["name"] = json!("1Gi");
        assert!(has_drifted(&of("1024Mi"), &live));
    }
}
