//! The schema of the values: it refuses invalid values, and describes every value.

use serde_json::Value;

use crate::helm::{Release, chart, helm, read};

#[test]
fn the_chart_passes_helms_own_lint() {
    let output = helm(&["lint", "--strict", &chart().display().to_string()]);
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_bad_value_is_refused_by_its_name() {
    let cases = [
        ("replica=2", "replica"),
        ("image.tga=1.0.0", "image tga"),
        ("images.mysql.repository=mysql", "images mysql"),
        ("replicas=-1", "replicas"),
        ("replicas=two", "replicas"),
        ("namespaces=shop", "namespaces"),
        ("namespaces={Shop_1}", "namespaces 0"),
        ("namespaces={shop,shop}", "namespaces"),
        ("crds.enabled=maybe", "crds enabled"),
        ("image.digest=abc", "image digest"),
        ("image.repository=", "image repository"),
        ("images.redis.tag=7 8", "images redis tag"),
        ("images.postgres.tag={major}", "images postgres tag"),
        ("imagePullPolicy=Sometimes", "imagePullPolicy"),
        ("imagePullSecrets={mirror}", "imagePullSecrets 0"),
        ("serviceAccount.create=false", "serviceAccount name"),
        ("labels.a=1", "labels a"),
        ("resources.limits.memory=lots", "resources limits memory"),
        ("metrics.port=80", "metrics port"),
        ("metrics.serviceMonitor.interval=30", "metrics serviceMonitor interval"),
        ("podDisruptionBudget.maxUnavailable=0", "podDisruptionBudget maxUnavailable"),
        ("extraEnv[0].value=x", "extraEnv 0 name"),
        ("test.resource=Shop", "test resource"),
        ("test.publish=no", "test publish"),
        ("crds.keep=yes", "crds keep"),
        ("namespaceOverride=Lock_1", "namespaceOverride"),
        ("strategy.type=Sometimes", "strategy type"),
        ("strategy.rollingUpdate.maxSurge=many", "strategy rollingUpdate maxSurge"),
        ("terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds"),
        ("livenessProbe.periodSeconds=0", "livenessProbe periodSeconds"),
        ("livenessProbe.httpGet=x", "livenessProbe httpGet"),
        ("readinessProbe.successThreshold=2", "readinessProbe successThreshold"),
        ("dnsPolicy=Cluster", "dnsPolicy"),
        ("dnsConfig.servers={10.0.0.10}", "dnsConfig servers"),
        ("hostNetwork=maybe", "hostNetwork"),
        ("volumes[0].emptyDir=x", "volumes 0 name"),
        ("volumeMounts[0].name=ca", "volumeMounts 0 mountPath"),
        ("networkPolicy.apiServer.ports={}", "networkPolicy apiServer ports"),
        ("networkPolicy.apiServer.cidrs={10.0.0.1}", "networkPolicy apiServer cidrs"),
        ("networkPolicy.dns.ports={0}", "networkPolicy dns ports"),
        ("metrics.ipFamilyPolicy=Dual", "metrics ipFamilyPolicy"),
        ("metrics.ipFamilies={IPv5}", "metrics ipFamilies"),
        ("metrics.podMonitor.interval=30", "metrics podMonitor interval"),
        ("metrics.prometheusRule.alertLabels=page", "metrics prometheusRule alertLabels"),
        ("metrics.dashboards.labels=page", "metrics dashboards labels"),
        ("metrics.runbookUrl=a b", "metrics runbookUrl"),
        ("extraObjects={1}", "extraObjects 0"),
    ];
    for (pair, names) in cases {
        let refusal = Release::new().set(pair).refusal();
        assert!(refusal.contains("meet the specifications of the schema"), "--set {pair}: {refusal}");
        // Each line is about one field. The notation of its path depends on the version of Helm.
        let names_it = |line: &str| {
            let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).collect();
            names.split(' ').all(|name| words.contains(&name))
        };
        assert!(refusal.lines().any(names_it), "--set {pair} is refused without naming {names}:\n{refusal}");
    }
}

#[test]
fn a_parent_charts_global_values_are_let_through() {
    assert_eq!(Release::new().set("global.team=shop").text(), Release::new().text());
}

#[test]
fn the_schema_knows_each_value_and_says_what_it_is() {
    let values: Value = serde_yaml::from_str(&read("charts/sluice/values.yaml")).expect("YAML");
    let schema: Value = serde_json::from_str(&read("charts/sluice/values.schema.json")).expect("JSON");
    compare("", &values, &schema, &schema);
}

/// Compares values and schema recursively, except below objects with arbitrary keys (labels, selectors).
fn compare(path: &str, values: &Value, schema: &Value, whole: &Value) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => whole.pointer(reference.trim_start_matches('#')).expect("a definition"),
        None => schema,
    };
    let Some(properties) = schema["properties"].as_object() else { return };
    let Some(values) = values.as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{path} allows unknown keys");
    for (key, value) in values {
        let known = properties.get(key).unwrap_or_else(|| panic!("the schema lacks {path}.{key}"));
        let says = known["description"].as_str().or_else(|| known["$ref"].as_str());
        assert!(says.is_some() || path.ends_with("resources"), "{path}.{key} has no description");
        compare(&format!("{path}.{key}"), value, known, whole);
    }
}
