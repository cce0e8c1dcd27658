//! Drift: other clients change, delete and label the objects of a resource.

use serde_json::{Value, json};
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::{COMPONENT, MADE, OF_RESOURCE, Objects, asked, containers, kubectl_in, objects, replaced, text};
use crate::support::objects::{Namespace, SOON};
use crate::support::trial::{NAME, Stage, create, small};

/// An object, and a merge patch that the operator must revert.
const CHANGES: [(&str, &str); 11] = [
    ("Service/shop-publisher", r#"{"spec":{"ports":[{"name":"http","port":9090,"targetPort":"http"}]}}"#),
    ("Service/shop-aggregator", r#"{"spec":{"selector":{"matches":"nobody"}}}"#),
    ("Service/shop-redis", r#"{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}"#),
    ("StatefulSet/shop-aggregator", r#"{"spec":{"replicas":2}}"#),
    ("StatefulSet/shop-redis", r#"{"metadata":{"labels":{"app.kubernetes.io/component":"cache"}}}"#),
    ("ConfigMap/shop-redis", r#"{"data":{"redis.conf":"appendfsync no\n"}}"#),
    ("NetworkPolicy/shop-redis", r#"{"spec":{"ingress":[{}]}}"#),
    ("NetworkPolicy/shop-postgres", r#"{"spec":{"egress":[{}]}}"#),
    ("NetworkPolicy/shop-default-deny", r#"{"spec":{"ingress":[{}],"egress":[{}]}}"#),
    ("PodDisruptionBudget/shop-postgres", r#"{"spec":{"maxUnavailable":0}}"#),
    ("ServiceAccount/shop-publisher", r#"{"automountServiceAccountToken":true}"#),
];
/// An object, and a strategic merge patch that adds something which the operator must remove.
const ADDED: [(&str, &str); 3] = [
    (
        "StatefulSet/shop-aggregator",
        r#"{"spec":{"template":{"spec":{"hostPID":true,"containers":[{"name":"aggregator",
            "securityContext":{"privileged":true,"allowPrivilegeEscalation":true}}]}}}}"#,
    ),
    (
        "StatefulSet/shop-aggregator",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"aggregator","args":["run","--workers=9"],
            "envFrom":[{"configMapRef":{"name":"theirs","optional":true}}],
            "ports":[{"name":"debug","containerPort":9999}]}]}}}}"#,
    ),
    ("StatefulSet/shop-aggregator", r#"{"spec":{"template":{"spec":{"securityContext":{"supplementalGroups":[7]}}}}}"#),
];
const DELETED: [&str; 3] =
    ["NetworkPolicy/shop-aggregator", "Service/shop-aggregator-pods", "Deployment/shop-publisher"];
/// Kinds without a status: their `resourceVersion` changes only when their content changes.
const PLAIN: [&str; 4] = ["ServiceAccount", "ConfigMap", "NetworkPolicy", "Service"];

async fn made(namespace: &Namespace) -> Objects {
    objects(namespace, MADE, &["-l", OF_RESOURCE]).await
}

/// The operations of the entries of the operator in the managed fields of an object.
fn operations(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let ours = entries.iter().filter(|entry| entry["manager"] == "sluice-operator" && entry["subresource"].is_null());
    ours.map(|entry| text(entry, "/operation").to_owned()).collect()
}

/// Returns the desired content, without the labels and annotations that the test added, and without the
/// addresses that a new object is assigned.
fn essence(object: &Value) -> Value {
    let mut essence = asked(object);
    for (map, key) in [("labels", "team"), ("annotations", "owner")] {
        if let Some(map) = essence["metadata"][map].as_object_mut() {
            map.remove(key);
        }
    }
    if let Some(spec) = essence["spec"].as_object_mut() {
        spec.remove("clusterIPs");
        spec.remove("clusterIP");
    }
    essence
}

/// Changes, adds to and deletes objects as other clients do.
async fn disturb(namespace: &Namespace) {
    for (object, patch) in CHANGES {
        kubectl_in(namespace, &["patch", object, "--type=merge", "-p", patch]).await;
    }
    // One that the resource has, and one that it does not have: it would delete events.
    let variables = ["SLUICE_WORKERS=9", "SLUICE_RETENTION=1h"];
    kubectl_in(namespace, &[["set", "env", "StatefulSet/shop-aggregator"].as_slice(), &variables].concat()).await;
    for (object, patch) in ADDED {
        kubectl_in(namespace, &["patch", object, "--type=strategic", "-p", patch]).await;
    }
    for object in DELETED {
        kubectl_in(namespace, &["delete", object, "--wait=false"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_change_is_put_back_and_what_they_add_is_kept() {
    let stage = Stage::shared("drift").await;
    let namespace = &stage.namespace;
    create(namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;

    let everything = format!("{MADE},secrets,persistentvolumeclaims");
    kubectl_in(namespace, &["label", &everything, "-l", OF_RESOURCE, "team=water"]).await;
    kubectl_in(namespace, &["annotate", &everything, "-l", OF_RESOURCE, "owner=anna"]).await;
    kubectl_in(namespace, &["label", "eventaggregators.sluice.dev", NAME, "team=water"]).await;
    kubectl_in(namespace, &["annotate", "eventaggregators.sluice.dev", NAME, "owner=anna"]).await;
    let (before, ran) = (made(namespace).await, containers(namespace).await);

    disturb(namespace).await;
    let after = wait_until("everything is as before", SOON, || async {
        let after = made(namespace).await;
        let differing: Vec<_> =
            before.keys().filter(|name| after.get(*name).map(essence) != Some(essence(&before[*name]))).collect();
        let seen: Vec<_> = differing.iter().map(|name| (name, after.get(*name).map(essence))).collect();
        holds(seen.is_empty() && before.len() == after.len(), || format!("{seen:#?}")).map(|()| after)
    })
    .await;
    namespace.ready(NAME).await;

    for (name, object) in &after {
        assert_eq!(operations(object), ["Apply"], "{name}: other writes of the operator must not own fields");
    }

    let uid = |object: &Value| text(object, "/metadata/uid").to_owned();
    let version = |object: &Value| text(object, "/metadata/resourceVersion").to_owned();
    for (name, object) in &before {
        let is_new = uid(object) != uid(&after[name]);
        assert_eq!(is_new, DELETED.contains(&name.as_str()), "{name} is created again only if it was deleted");
        let was_touched = is_new || CHANGES.iter().any(|(changed, _)| changed == name);
        let is_plain = PLAIN.iter().any(|kind| name.starts_with(&format!("{kind}/")));
        if is_plain && !was_touched {
            assert_eq!(version(object), version(&after[name]), "{name} was written without a change");
        }
    }
    let now = wait_until("the components with changed pods run again", SOON, || async {
        let now = containers(namespace).await;
        holds(ran.keys().eq(now.keys()) && now["publisher"].len() == 1 && now["aggregator"].len() == 1, || {
            format!("{now:#?}")
        })
        .map(|()| now)
    })
    .await;
    for untouched in ["redis", "postgres"] {
        assert!(!replaced(&ran, &now).contains(&untouched.to_owned()), "{untouched} was restarted: {ran:#?}\n{now:#?}");
    }

    namespace.patch(NAME, json!({ "spec": { "aggregator": { "workers": 3 } } })).await;
    namespace.ready(NAME).await;
    assert_eq!(namespace.variable("shop-aggregator", "SLUICE_WORKERS").await, "3");
    let mut labelled = objects(namespace, &everything, &["-l", OF_RESOURCE]).await;
    labelled.extend(objects(namespace, "eventaggregators.sluice.dev", &[]).await);
    labelled.retain(|name, _| !DELETED.contains(&name.as_str()));
    assert!(labelled.len() > before.len(), "objects, Secrets, claims and the resource: {:?}", labelled.keys());
    for (name, object) in &labelled {
        let added = [text(object, "/metadata/labels/team"), text(object, "/metadata/annotations/owner")];
        assert_eq!(added, ["water", "anna"], "{name} lost what its user added: {:#}", object["metadata"]);
    }
    let component = &labelled["StatefulSet/shop-redis"]["metadata"]["labels"][COMPONENT];
    assert_eq!(component, "redis");
}

/// A container, a volume and a place on a node that a user adds to our pods stay when an addition to our own container
/// is removed. Afterwards the operator writes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_stays_where_an_addition_to_our_container_is_removed() {
    let stage = Stage::shared("sidecar").await;
    let namespace = &stage.namespace;
    create(namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;
    let set = "StatefulSet/shop-aggregator";
    let image = kubectl_in(namespace, &["get", set, "-o", "jsonpath={.spec.template.spec.containers[0].image}"]).await;
    let template = json!({
        "metadata": {"labels": {"team": "water"}},
        "spec": {
            "containers": [{
                "name": "helper", "image": image, "imagePullPolicy": "IfNotPresent", "args": ["run"],
                "env": [{"name": "SLUICE_RETENTION", "value": "1h"}],
            }],
            "volumes": [{"name": "theirs", "emptyDir": {}}],
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "nodeSelector": {"kubernetes.io/os": "linux"},
        }
    });
    let patch = json!({"spec": {"template": template}}).to_string();
    kubectl_in(namespace, &["patch", set, "--type=strategic", "-p", &patch]).await;
    kubectl_in(namespace, &["set", "env", set, "-c", "aggregator", "SLUICE_RETENTION=1h"]).await;
    let name = "StatefulSet/shop-aggregator";
    let after = wait_until("the variable of our container is removed", SOON, || async {
        let set = made(namespace).await.remove(name).ok_or("no set")?;
        let containers = set["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
        let ours = containers.iter().find(|container| container["name"] == "aggregator").cloned().unwrap_or_default();
        let variables = ours["env"].to_string();
        holds(!variables.contains("SLUICE_RETENTION"), || variables).map(|()| set)
    })
    .await;
    let spec = &after["spec"]["template"]["spec"];
    assert_eq!(spec["containers"].as_array().map(Vec::len), Some(2), "{spec:#}");
    assert!(spec["containers"].to_string().contains("SLUICE_RETENTION"), "the helper keeps its variable: {spec:#}");
    assert_eq!(spec["tolerations"][0]["key"], "spot");
    assert_eq!(spec["nodeSelector"]["kubernetes.io/os"], "linux");
    assert!(spec["volumes"].to_string().contains("theirs"), "{spec:#}");
    assert_eq!(after["spec"]["template"]["metadata"]["labels"]["team"], "water");

    // A label of the set makes the operator look at it. It must find that nothing has drifted.
    let version = after["metadata"]["generation"].clone();
    kubectl_in(namespace, &["label", set, "looked=at"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let later = made(namespace).await.remove(name).expect("the set");
    assert_eq!(later["metadata"]["generation"], version, "the operator wrote again: {later:#}");
}
