//! The operator's Deployment, and the objects that refer to it: Service, probes, lease, tests.

use serde_json::{Value, json};

use crate::helm::{Release, read, text, texts};

#[test]
fn everything_set_at_once_renders_the_recorded_deployment() {
    let release = Release::named("gate", "dam").values("tests/chart/everything.values.yaml");
    let expected: Value = serde_yaml::from_str(&read("tests/chart/everything.deployment.yaml")).expect("YAML");
    let objects = release.objects();
    let actual = objects.one("Deployment");
    assert_eq!(*actual, expected, "rendered:\n{}", serde_yaml::to_string(actual).expect("YAML"));
}

#[test]
fn a_kubernetes_that_drops_the_pause_before_a_publisher_stops_is_refused() {
    let refusal = Release::new().on("1.29.14").refusal();
    assert!(refusal.contains(">=1.30.0-0"), "{refusal}");
    assert!(!Release::new().on("1.30.0").objects().all("Deployment").is_empty());
    // Providers add words of their own to the version.
    assert!(!Release::new().on("v1.30.4-gke.100").objects().all("Deployment").is_empty());
}

#[test]
fn the_operator_knows_each_variable_that_the_chart_sets() {
    let objects = Release::new().set("namespaces={till}").objects();
    let settings = read("operator/src/settings.rs");
    for variable in objects.container()["env"].as_array().expect("env") {
        let name = text(&variable["name"]);
        // The log level is a variable of every program, not one of the operator's settings.
        let known = name == "SLUICE_LOG" || settings.contains(&format!("env = \"{name}\""));
        assert!(known, "the operator has no setting {name}");
    }
}

#[test]
fn the_operators_pods_carry_the_name_by_which_policies_let_them_in() {
    let objects = Release::named("gate", "dam").set("nameOverride=other,test.resource=shop").objects();
    let expected = r#"OPERATOR_NAME: &str = "sluice-operator";"#;
    assert!(read("operator/src/controller/build/names.rs").contains(expected), "the operator expects another name");
    let labels = &objects.one("Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/name"], "sluice-operator");
    for test in objects.all("Pod") {
        assert_ne!(test["metadata"]["labels"]["app.kubernetes.io/name"], "sluice-operator", "it is another program");
    }
}

#[test]
fn one_replica_has_no_disruption_budget_and_two_have_one_that_lets_drains_through() {
    assert!(Release::new().objects().all("PodDisruptionBudget").is_empty(), "it would have no effect");
    let objects = Release::new().set("replicas=2").objects();
    assert_eq!(objects.one("PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    let without = Release::new().set("replicas=2,podDisruptionBudget.enabled=false").objects();
    assert!(without.all("PodDisruptionBudget").is_empty());
}

#[test]
fn several_replicas_agree_on_one_lease_of_their_namespace() {
    let objects = Release::named("gate", "dam").objects();
    let lease = objects.env("SLUICE_LEASE_NAME").expect("the lease's name").to_owned();
    let granted: Vec<&Value> = objects
        .all("Role")
        .into_iter()
        .filter(|role| role["metadata"]["namespace"] == "dam")
        .flat_map(|role| role["rules"].as_array().expect("rules"))
        .filter(|rule| rule["resources"] == json!(["leases"]) && !rule["resourceNames"].is_null())
        .map(|rule| &rule["resourceNames"])
        .collect();
    assert_eq!(granted, [&json!([lease])], "the role grants another lease than the operator uses");
}

#[test]
fn the_namespaces_to_look_after_are_handed_to_the_operator() {
    assert_eq!(Release::new().objects().env("SLUICE_NAMESPACES"), None, "no list means all namespaces");
    let objects = Release::new().set("namespaces={shop,till}").objects();
    assert_eq!(objects.env("SLUICE_NAMESPACES"), Some("shop,till"));
}

#[test]
fn probes_service_and_monitor_point_at_the_port_where_the_operator_listens() {
    let objects = Release::new().set("metrics.port=9999,metrics.serviceMonitor.enabled=true").objects();
    let container = objects.container();
    assert_eq!(objects.env("SLUICE_LISTEN"), Some("[::]:9999"));
    assert_eq!(container["ports"], json!([{"name": "http", "containerPort": 9999}]));
    assert_eq!(container["livenessProbe"]["httpGet"], json!({"path": "/healthz", "port": "http"}));
    assert_eq!(container["readinessProbe"]["httpGet"], json!({"path": "/readyz", "port": "http"}));
    let ports = &objects.one("Service")["spec"]["ports"];
    assert_eq!(*ports, json!([{"name": "http", "port": 9999, "targetPort": "http"}]));
    assert_eq!(objects.one("ServiceMonitor")["spec"]["endpoints"][0]["port"], "http");
    assert_eq!(Release::new().objects().all("ServiceMonitor").len(), 0, "it is disabled by default");
}

#[test]
fn the_helm_test_reaches_the_operator_and_with_a_name_the_resource_too() {
    let objects = Release::named("gate", "dam").set("test.resource=shop,test.namespace=till").objects();
    let tests: Vec<&Value> = objects.all("Pod");
    assert_eq!(tests.len(), 2);
    for pod in &tests {
        assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    }
    let args: Vec<String> = tests.iter().map(|pod| pod["spec"]["containers"][0]["args"].to_string()).collect();
    let service = text(&objects.one("Service")["metadata"]["name"]);
    assert!(args.iter().any(|args| args.contains(&format!("http://{service}.dam.svc:8082"))), "{args:?}");
    assert!(args.iter().any(|args| args.contains("http://shop-publisher.till.svc:8080")), "{args:?}");
    assert_eq!(Release::new().objects().all("Pod").len(), 1, "without a resource, only the operator is tested");
}

#[test]
fn the_helm_test_leaves_one_event_in_the_resource_or_none() {
    let args = |release: Release| {
        let objects = release.set("test.resource=shop").objects();
        let pod = objects.all("Pod").into_iter().find(|pod| text(&pod["metadata"]["name"]).ends_with("-publish"));
        texts(&pod.expect("a pod")["spec"]["containers"][0]["args"]).join(" ")
    };
    let publishes = args(Release::new());
    assert!(publishes.starts_with("simulate --events=2 --duplicate=0.5 --topics=1 "), "{publishes}");
    assert!(!publishes.contains("run-id"), "a topic of an earlier run has other counts");
    let reads = args(Release::new().set("test.publish=false"));
    assert!(reads.starts_with("healthcheck --url http://shop-publisher."), "{reads}");
}
