//! What users add to the chart: objects, volumes, security contexts, and metadata of single objects.

use serde_json::json;

use crate::helm::Release;

#[test]
fn additional_objects_are_templates_of_the_release() {
    let objects = Release::named("gate", "dam")
        .set("metrics.port=9999")
        .set_json(
            r#"extraObjects=["kind: First\nmetadata: {name: '{{ .Release.Name }}-first'}",
            {"kind":"Second","metadata":{"name":"{{ include \"sluice.fullname\" . }}"},"port":"{{ .Values.metrics.port }}"}]"#,
        )
        .objects();
    assert_eq!(objects.one("First")["metadata"]["name"], "gate-first");
    let second = objects.one("Second");
    assert_eq!((&second["metadata"]["name"], &second["port"]), (&json!("gate-sluice"), &json!("9999")));
}

#[test]
fn volumes_are_mounted_by_the_operator_alone() {
    let objects = Release::new()
        .set_json(r#"volumes=[{"name":"ca","configMap":{"name":"ca"}}]"#)
        .set_json(r#"volumeMounts=[{"name":"ca","mountPath":"/etc/ca","readOnly":true}]"#)
        .objects();
    let pod = &objects.one("Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"], json!([{"name": "ca", "configMap": {"name": "ca"}}]));
    assert_eq!(objects.container()["volumeMounts"], json!([{"name": "ca", "mountPath": "/etc/ca", "readOnly": true}]));
    assert!(objects.one("Pod")["spec"]["volumes"].is_null());
}

#[test]
fn all_objects_but_those_of_the_cluster_move_to_the_other_namespace() {
    let release = || Release::named("gate", "dam").set("namespaceOverride=lock,replicas=2,networkPolicy.enabled=true");
    let objects = release().set("metrics.serviceMonitor.enabled=true,test.resource=shop").objects();
    for (object, name) in objects.0.iter().zip(objects.names()) {
        let namespace = object["metadata"]["namespace"].as_str();
        assert!(namespace.is_none_or(|namespace| namespace == "lock"), "{name} is in {namespace:?}");
    }
    for binding in objects.all("ClusterRoleBinding").into_iter().chain(objects.all("RoleBinding")) {
        assert_eq!(binding["subjects"][0]["namespace"], "lock", "{binding}");
    }
    let text = release().text();
    assert!(!text.contains(".dam.svc"), "an address names the namespace of the release");
}

#[test]
fn a_changed_security_context_keeps_what_it_does_not_name() {
    let objects = Release::new()
        .set_json(r#"podSecurityContext={"runAsUser":0,"fsGroup":7}"#)
        .set_json(r#"containerSecurityContext={"privileged":false}"#)
        .objects();
    for (name, pod) in objects.pods() {
        let expected = json!({
            "runAsNonRoot": true, "runAsUser": 0, "runAsGroup": 65_532, "fsGroup": 7,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        assert_eq!(pod["securityContext"], expected, "{name}");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!((&container["privileged"], &container["capabilities"]["drop"]), (&json!(false), &json!(["ALL"])));
    }
}

#[test]
fn annotations_and_labels_of_single_objects_are_on_these_alone() {
    let objects = Release::new()
        .set("deploymentAnnotations.a=1-x,metrics.labels.b=2-x,crds.annotations.c=3-x,crds.labels.d=4-x")
        .objects();
    let with = |part: &str, key: &str| {
        let has = |object: &&serde_json::Value| !object["metadata"][part][key].is_null();
        objects.0.iter().filter(has).map(|object| object["kind"].as_str().expect("a kind")).collect::<Vec<_>>()
    };
    assert_eq!(with("annotations", "a"), ["Deployment"]);
    assert_eq!(with("labels", "b"), ["Service"]);
    assert_eq!(with("annotations", "c"), ["CustomResourceDefinition"]);
    assert_eq!(with("labels", "d"), ["CustomResourceDefinition"]);
    assert!(
        objects.one("Deployment")["spec"]["template"]["metadata"]["annotations"].is_null(),
        "pods are not replaced"
    );
}
