//! What others change in the objects of a resource: what is put back, and what stays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::trial::{SETS, Trial};

#[tokio::test]
async fn drift_is_repaired_and_what_users_add_is_left_alone() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    let service = "/api/v1/namespaces/accounts/services/ledger-redis";
    trial.api.change(service, |service| service["metadata"]["labels"]["team"] = json!("blue"));
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0], "a label of a user is no drift");

    trial.api.change(service, |service| service["spec"]["ports"][0]["port"] = json!(1));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), ["APPLY services/ledger-redis"]);
}

#[tokio::test]
async fn lists_that_clash_with_ours_are_put_back_whole() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    let service = "/api/v1/namespaces/accounts/services/ledger-redis";
    trial.api.change(service, |service| service["spec"]["ports"][0]["port"] = json!(1));
    trial.api.calls();
    // Two ports of the same name.
    trial.api.refuse("APPLY services/ledger-redis", 422);
    trial.reconcile().await.unwrap_err();
    let writes = trial.api.writes();
    let expected = ["APPLY services/ledger-redis", "MERGE services/ledger-redis", "APPLY services/ledger-redis"];
    assert_eq!(writes[..3], expected, "{writes:?}");
    let ports = trial.api.get(service).unwrap()["spec"]["ports"].clone();
    assert_eq!((ports.as_array().map(Vec::len), &ports[0]["port"]), (Some(1), &json!(6379)));
}

/// The container of the aggregators, and what others add to it, as a strategic merge patch.
const ADDITIONS: [(&str, &str); 9] = [
    ("env", r#"[{"name": "SLUICE_RETENTION", "value": "1h"}]"#),
    ("envFrom", r#"[{"configMapRef": {"name": "theirs"}}]"#),
    ("args", r#"["run", "--retention=1h"]"#),
    ("command", r#"["sh", "-c", "sleep 1h"]"#),
    ("volumeMounts", r#"[{"name": "theirs", "mountPath": "/etc/ssl"}]"#),
    ("ports", r#"[{"name": "debug", "containerPort": 9, "protocol": "TCP"}]"#),
    ("lifecycle", r#"{"postStart": {"exec": {"command": ["true"]}}}"#),
    ("livenessProbe", r#"{"initialDelaySeconds": 3000}"#),
    ("securityContext", r#"{"privileged": true}"#),
];

/// Adds to a field of the first container of the aggregators, as another client does.
fn add(set: &mut Value, field: &str, added: Value) {
    let container = &mut set["spec"]["template"]["spec"]["containers"][0];
    match (&mut container[field], added) {
        (Value::Array(items), Value::Array(added)) if field != "args" => items.extend(added),
        (Value::Object(fields), Value::Object(added)) => fields.extend(added),
        (value, added) => *value = added,
    }
}

#[tokio::test]
async fn what_others_add_to_our_containers_is_removed() {
    let set = format!("{SETS}/ledger-aggregator");
    for (field, added) in ADDITIONS {
        let trial = Trial::new();
        trial.reconcile().await.unwrap();
        trial.finish_rollouts();
        trial.reconcile().await.unwrap();
        let before = trial.api.get(&set).unwrap()["spec"].clone();
        trial.api.change(&set, |set| add(set, field, serde_json::from_str(added).unwrap()));
        assert_ne!(trial.api.get(&set).unwrap()["spec"], before, "{field}");

        trial.reconcile().await.unwrap();
        assert_eq!(trial.api.get(&set).unwrap()["spec"], before, "{field}");
        trial.finish_rollouts();
        trial.reconcile().await.unwrap();
        trial.api.calls();
        trial.reconcile().await.unwrap();
        assert_eq!(trial.api.writes(), [""; 0], "{field}");
    }
}

#[tokio::test]
async fn what_others_add_to_the_privileges_of_our_pods_is_removed() {
    let set = format!("{SETS}/ledger-redis");
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    let before = trial.api.get(&set).unwrap()["spec"].clone();
    for (field, value) in
        [("hostNetwork", json!(true)), ("hostPID", json!(true)), ("shareProcessNamespace", json!(true))]
    {
        trial.api.change(&set, |set| set["spec"]["template"]["spec"][field] = value);
        trial.reconcile().await.unwrap();
        assert_eq!(trial.api.get(&set).unwrap()["spec"], before, "{field}");
    }
    trial.api.change(&set, |set| {
        set["spec"]["template"]["spec"]["securityContext"]["sysctls"] = json!([{"name": "a", "value": "b"}]);
    });
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(&set).unwrap()["spec"], before);
}

#[tokio::test]
async fn sidecars_labels_and_scheduling_of_others_stay_also_when_an_addition_is_removed() {
    let set = format!("{SETS}/ledger-aggregator");
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    trial.api.calls();
    let theirs = |set: &mut Value| {
        set["metadata"]["annotations"]["owner"] = json!("anna");
        let template = &mut set["spec"]["template"];
        template["metadata"]["labels"]["team"] = json!("blue");
        let pod = &mut template["spec"];
        pod["tolerations"] = json!([{"key": "spot", "operator": "Exists"}]);
        pod["nodeSelector"] = json!({"disk": "fast"});
        pod["volumes"] = json!([{"name": "theirs", "emptyDir": {}}]);
        let sidecar = json!({"name": "proxy", "image": "proxy:1", "terminationMessagePath": "/dev/termination-log",
            "securityContext": {"privileged": true, "procMount": "Default"},
            "env": [{"name": "SLUICE_RETENTION", "value": "1h"}]});
        pod["containers"].as_array_mut().unwrap().push(sidecar);
        pod["initContainers"] = json!([{"name": "wait", "image": "wait:1"}]);
    };
    trial.api.change(&set, theirs);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);

    let with_theirs = trial.api.get(&set).unwrap()["spec"].clone();
    trial.api.change(&set, |set| add(set, "env", json!([{"name": "SLUICE_RETENTION", "value": "1h"}])));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(&set).unwrap()["spec"], with_theirs);
    let writes = trial.api.writes();
    assert_eq!(writes[..2], ["STRATEGIC statefulsets/ledger-aggregator", "APPLY statefulsets/ledger-aggregator"]);
}

#[tokio::test]
async fn no_write_of_ours_keeps_a_field_that_a_later_apply_no_longer_has() {
    let set = format!("{SETS}/ledger-aggregator");
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    let managers = |trial: &Trial| {
        let entries = trial.api.get(&set).unwrap()["metadata"]["managedFields"].clone();
        let ours = entries.as_array().cloned().unwrap_or_default().into_iter();
        let text = |entry: &Value| format!("{} {}", entry["manager"], entry["operation"]).replace('"', "");
        ours.map(|entry| text(&entry)).collect::<Vec<_>>()
    };
    trial.api.change(&set, |set| add(set, "env", json!([{"name": "SLUICE_RETENTION", "value": "1h"}])));
    trial.reconcile().await.unwrap();
    assert_eq!(managers(&trial), ["sluice-operator Apply"]);

    // An earlier version of the operator left such an entry. The entries of others stay.
    trial.api.change(&set, |set| {
        let entries = set["metadata"]["managedFields"].as_array_mut().unwrap();
        entries.push(json!({"manager": "sluice-operator", "operation": "Update"}));
        entries.push(json!({"manager": "kubectl-set", "operation": "Update"}));
    });
    trial.reconcile().await.unwrap();
    assert_eq!(managers(&trial), ["sluice-operator Apply", "kubectl-set Update"]);
}
