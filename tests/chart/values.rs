//! What the schema of the values refuses, and that it knows what it should.

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
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.tga=1.0.0", "at '/image': additional properties 'tga' not allowed"),
        ("images.mysql.repository=mysql", "at '/images': additional properties 'mysql' not allowed"),
        ("replicas=-1", "at '/replicas': minimum"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("namespaces=shop", "at '/namespaces': got string, want array"),
        ("namespaces={Shop_1}", "at '/namespaces/0': 'Shop_1' does not match pattern"),
        ("namespaces={shop,shop}", "at '/namespaces': items at 0 and 1 are equal"),
        ("crds.enabled=maybe", "at '/crds/enabled': got string, want boolean"),
        ("image.digest=abc", "at '/image/digest': 'abc' does not match pattern"),
        ("image.repository=", "at '/image/repository': '' does not match pattern"),
        ("images.redis.tag=7 8", "at '/images/redis/tag': '7 8' does not match pattern"),
        ("imagePullPolicy=Sometimes", "at '/imagePullPolicy': value must be one of"),
        ("imagePullSecrets={mirror}", "at '/imagePullSecrets/0': got string, want object"),
        ("serviceAccount.create=false", "at '/serviceAccount/name': minLength"),
        ("labels.a=1", "at '/labels/a': got number, want string"),
        ("resources.limits.memory=lots", "at '/resources/limits/memory': 'lots' does not match pattern"),
        ("metrics.port=80", "at '/metrics/port': minimum"),
        ("metrics.serviceMonitor.interval=30", "at '/metrics/serviceMonitor/interval'"),
        ("podDisruptionBudget.maxUnavailable=0", "at '/podDisruptionBudget/maxUnavailable': minimum"),
        ("extraEnv[0].value=x", "at '/extraEnv/0': missing property 'name'"),
        ("test.resource=Shop", "at '/test/resource': 'Shop' does not match pattern"),
    ];
    for (pair, message) in cases {
        let refusal = Release::new().set(pair).refusal();
        assert!(refusal.contains(message), "--set {pair} says:\n{refusal}which lacks: {message}");
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

/// Walks down both; objects that the schema leaves open (labels, selectors) end the way.
fn compare(path: &str, values: &Value, schema: &Value, whole: &Value) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => whole.pointer(reference.trim_start_matches('#')).expect("a definition"),
        None => schema,
    };
    let Some(properties) = schema["properties"].as_object() else { return };
    let Some(values) = values.as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{path} lets unknown keys through");
    for (key, value) in values {
        let known = properties.get(key).unwrap_or_else(|| panic!("the schema lacks {path}.{key}"));
        let says = known["description"].as_str().or_else(|| known["$ref"].as_str());
        assert!(says.is_some() || path.ends_with("resources"), "{path}.{key} has no description");
        compare(&format!("{path}.{key}"), value, known, whole);
    }
}
