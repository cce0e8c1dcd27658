//! Where the programs of a resource send spans: what the pods get, and which settings are refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use serde_json::{Value, json};
use sluice_operator::controller::build::Objects;
use sluice_operator::controller::validate::validate;
use sluice_operator::crd::EventAggregator;
use support::tls::{certificate, with};
use support::trial::{DEPLOYMENT, SECRETS, SETS, Trial};

/// Returns the templates of the programs' pods.
fn templates(objects: Objects) -> Vec<PodTemplateSpec> {
    let sets = objects.stateful_sets.into_iter().map(|set| set.spec.unwrap().template);
    let deployments = objects.deployments.into_iter().map(|set| set.spec.unwrap().template);
    let is_ours = |template: &PodTemplateSpec| ["aggregator", "publisher"].contains(&container(template).name.as_str());
    let programs: Vec<_> = sets.chain(deployments).filter(is_ours).collect();
    assert_eq!(programs.len(), 2);
    programs
}

fn container(template: &PodTemplateSpec) -> &Container {
    &template.spec.as_ref().unwrap().containers[0]
}

/// Returns the variables of a container in their order, each with its value or where that is from.
fn variables(container: &Container) -> Vec<(String, Value)> {
    let all = container.env.iter().flatten();
    all.map(|variable| {
        let from = serde_json::to_value(&variable.value_from).unwrap();
        (variable.name.clone(), variable.value.clone().map_or(from, Value::from))
    })
    .collect()
}

fn value(variables: &[(String, Value)], name: &str) -> Value {
    variables.iter().find(|(variable, _)| variable == name).map_or(Value::Null, |(_, value)| value.clone())
}

/// Returns the resource of a fixture with this setting.
fn resource(fixture: &str, tracing: Value) -> EventAggregator {
    let mut resource: Value = serde_yaml::from_str(&support::fixture_text(fixture)).unwrap();
    resource["spec"]["tracing"] = tracing;
    serde_json::from_value(resource).unwrap()
}

#[test]
fn both_programs_are_told_where_to_send_spans_and_who_they_are() {
    for template in templates(support::objects("harbor.yaml")) {
        let variables = variables(container(&template));
        for (name, expected) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.monitoring.svc:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("SLUICE_TRACE_LIMIT", "7"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "k8s.namespace.name=accounts,k8s.pod.name=$(OTEL_RESOURCE_ATTRIBUTES_POD_NAME),\
                 service.instance.id=$(OTEL_RESOURCE_ATTRIBUTES_POD_NAME),sluice.resource=harbor",
            ),
        ] {
            assert_eq!(value(&variables, name), expected, "{name}");
        }
        // The kubelet replaces references to variables that come before, and no others.
        let place = |name: &str| variables.iter().position(|(variable, _)| variable == name).unwrap();
        assert!(place("OTEL_RESOURCE_ATTRIBUTES_POD_NAME") < place("OTEL_RESOURCE_ATTRIBUTES"));
        let pod = &value(&variables, "OTEL_RESOURCE_ATTRIBUTES_POD_NAME")["fieldRef"]["fieldPath"];
        assert_eq!(*pod, "metadata.name");
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_CERTIFICATE"] {
            assert_eq!(value(&variables, name), Value::Null, "{name}");
        }
    }
}

#[test]
fn headers_stay_in_their_secret_and_the_files_of_tls_are_mounted() {
    for template in templates(support::objects("remote.yaml")) {
        let container = container(&template);
        let variables = variables(container);
        let headers = &value(&variables, "OTEL_EXPORTER_OTLP_HEADERS")["secretKeyRef"];
        assert_eq!((&headers["name"], &headers["key"]), (&json!("traces"), &json!("headers")));
        assert_eq!(value(&variables, "OTEL_EXPORTER_OTLP_ENDPOINT"), "https://collector.example/otlp");
        let volumes = template.spec.as_ref().unwrap().volumes.as_ref().unwrap();
        for (variable, secret, key) in [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "authority", "tls.crt"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "client", "tls.crt"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "client", "tls.key"),
        ] {
            let file = value(&variables, variable);
            let (folder, file) = file.as_str().unwrap().rsplit_once('/').unwrap();
            let mounts = container.volume_mounts.as_ref().unwrap();
            let mount = mounts.iter().find(|mount| mount.mount_path == folder).unwrap();
            let source = volumes.iter().find(|volume| volume.name == mount.name).unwrap().secret.as_ref().unwrap();
            assert_eq!(source.secret_name.as_deref(), Some(secret), "{variable}");
            let item = source.items.as_ref().unwrap().iter().find(|item| item.path == file).unwrap();
            assert_eq!(item.key, key, "{variable}");
        }
        assert!(!serde_json::to_string(&template).unwrap().contains("Bearer"), "a template shows a header");
    }
}

/// An upgrade of the operator restarts no pod of a resource that does not have the field.
#[test]
fn without_the_field_pods_have_no_variable_of_it() {
    for fixture in ["tiny.yaml", "sealed.yaml", "ledger.yaml", "vault.yaml"] {
        let built = serde_json::to_string(&support::objects(fixture)).unwrap();
        for word in ["OTEL_", "SLUICE_TRACE", "tls-collector", "sluice.dev/tracing"] {
            assert!(!built.contains(word), "{fixture} has {word}");
        }
    }
}

#[test]
fn an_endpoint_that_cannot_work_is_refused_by_its_field() {
    let refused = |fixture: &str, tracing: Value| {
        let resource = resource(fixture, tracing.clone());
        let result = validate(&resource, &support::external_secrets(), &support::defaults(), None);
        result.map(|_| String::new()).unwrap_or_else(|error| error.to_string())
    };
    let http = "http://collector:4318";
    for (fixture, tracing, words) in [
        ("tiny.yaml", json!({"endpoint": "collector:4318"}), "spec.tracing.endpoint: must be a URL"),
        ("tiny.yaml", json!({"endpoint": "http://a,b"}), "spec.tracing.endpoint: must be a URL"),
        ("tiny.yaml", json!({"endpoint": "http://a:0"}), "spec.tracing.endpoint: must be a URL"),
        ("tiny.yaml", json!({"endpoint": http, "ratio": "2"}), "spec.tracing.ratio: must be a decimal"),
        ("tiny.yaml", json!({"endpoint": http, "ratio": "NaN"}), "spec.tracing.ratio: must be a decimal"),
        ("tiny.yaml", json!({"endpoint": http, "cidrs": ["10.0.0.0"]}), "spec.tracing.cidrs"),
        ("tiny.yaml", json!({"endpoint": http}), ""),
        ("sealed.yaml", json!({"endpoint": http}), "spec.tracing.endpoint: must begin with https://, because spec.tls"),
        ("sealed.yaml", json!({"endpoint": "https://collector", "caSecret": {"name": "authority"}}), ""),
        ("sealed.yaml", json!({"endpoint": "http://localhost:4318"}), ""),
        ("tiny.yaml", json!({"endpoint": http, "headersSecret": {"name": "traces"}}), ""),
        (
            "tiny.yaml",
            json!({"endpoint": http, "headersSecret": {"name": "traces", "key": "other"}}),
            "spec.tracing.headersSecret: there is no Secret traces with the key other",
        ),
        (
            "tiny.yaml",
            json!({"endpoint": http, "headersSecret": {"name": "cache", "key": "url"}}),
            "the key url of Secret cache must be of the form NAME=VALUE",
        ),
        (
            "tiny.yaml",
            json!({"endpoint": "https://collector", "caSecret": {"name": "other"}}),
            "spec.tracing.caSecret: there is no Secret other with the key ca.crt",
        ),
        (
            "tiny.yaml",
            json!({"endpoint": "https://collector", "caSecret": {"name": "authority"}, "certSecret": {"name": "cache"}}),
            "spec.tracing.certSecret: there is no Secret cache with the key tls.crt",
        ),
    ] {
        let message = refused(fixture, tracing.clone());
        let fits = if words.is_empty() { message.is_empty() } else { message.contains(words) };
        assert!(fits, "{fixture} with {tracing}: {message:?} instead of {words:?}");
        assert!(!message.contains("pw"), "{message}");
    }
}

/// The template of a component's pods, on the API server.
fn deployed(trial: &Trial, path: &str) -> Value {
    trial.api.get(path).unwrap()["spec"]["template"].clone()
}

#[tokio::test]
async fn other_headers_replace_the_pods_and_other_cas_do_not() {
    let trial = Trial::new();
    let ca = || certificate("accounts", "ca", &["collector.example"]);
    let put = |secret| {
        let value = serde_json::to_value(&secret).unwrap();
        trial.api.put(&format!("{SECRETS}/{}", value["metadata"]["name"].as_str().unwrap()), value);
    };
    put(ca());
    put(support::secret("accounts", "traces", "headers", "x-token=a"));
    trial.change_spec(|spec| {
        spec["tracing"] = json!({
            "endpoint": "https://collector", "caSecret": {"name": "ca"}, "headersSecret": {"name": "traces"}
        });
    });
    trial.reconcile().await.unwrap();
    let aggregators = format!("{SETS}/ledger-aggregator");
    let both = |trial: &Trial| [deployed(trial, DEPLOYMENT), deployed(trial, &aggregators)];
    let before = both(&trial);
    put(ca());
    trial.reconcile().await.unwrap();
    assert_eq!(both(&trial), before);
    put(support::secret("accounts", "traces", "headers", "x-token=b"));
    trial.reconcile().await.unwrap();
    for (after, before) in both(&trial).iter().zip(&before) {
        assert_ne!(after, before);
        assert_eq!(after["spec"], before["spec"], "only the annotation differs");
    }

    put(with(ca(), "ca.crt", None));
    trial.reconcile().await.unwrap_err();
    let ready = trial.condition("Ready");
    assert_eq!(ready["reason"], "SecretMissing");
    assert!(ready["message"].as_str().unwrap().contains("spec.tracing.caSecret"), "{ready}");
}
