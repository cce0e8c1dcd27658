//! What the Prometheus Operator reads: ServiceMonitor, PodMonitor and alerts.

use serde_json::{Value, json};

use crate::helm::{Objects, Release, read, text};

#[test]
fn a_monitor_of_pods_takes_the_place_of_that_of_the_service() {
    let objects = Release::new().set("metrics.podMonitor.enabled=true").objects();
    assert!(objects.all("ServiceMonitor").is_empty());
    let monitor = &objects.one("PodMonitor")["spec"];
    let labels = &objects.one("Deployment")["spec"]["template"]["metadata"]["labels"];
    let selector = monitor["selector"]["matchLabels"].as_object().expect("a selector");
    assert!(selector.iter().all(|(name, value)| labels[name] == *value), "{selector:?} and {labels}");
    let endpoint = json!([{"port": "http", "path": "/metrics", "interval": "30s"}]);
    assert_eq!(monitor["podMetricsEndpoints"], endpoint);
    assert_eq!(objects.container()["ports"][0]["name"], "http");
}

#[test]
fn further_fields_of_an_endpoint_do_not_replace_those_of_the_chart() {
    for (monitor, kind, endpoints) in
        [("serviceMonitor", "ServiceMonitor", "endpoints"), ("podMonitor", "PodMonitor", "podMetricsEndpoints")]
    {
        let more = r#"{"scrapeTimeout":"5s","port":"other"}"#;
        let objects = Release::new()
            .set(&format!("metrics.{monitor}.enabled=true"))
            .set_json(&format!("metrics.{monitor}.endpointAdditionalProperties={more}"))
            .objects();
        let endpoint = &objects.one(kind)["spec"][endpoints][0];
        assert_eq!((&endpoint["port"], &endpoint["scrapeTimeout"]), (&json!("http"), &json!("5s")), "{kind}");
    }
}

#[test]
fn each_alert_is_about_a_metric_of_the_operator_and_of_this_release_alone() {
    let objects = Release::named("gate", "dam").set("metrics.prometheusRule.enabled=true").objects();
    let metrics = read("operator/src/metrics.rs");
    let rules = alerts(&objects);
    assert_eq!(rules.len(), 3);
    for rule in rules {
        let expression = text(&rule["expr"]);
        let name =
            expression.split(|c: char| !c.is_alphanumeric() && c != '_').find(|word| word.starts_with("sluice_"));
        let name = name.unwrap_or_else(|| panic!("no metric in {expression}"));
        assert!(metrics.contains(&format!("\"{name}\"")), "{name} is no metric of the operator");
        assert!(expression.contains(r#"{namespace="dam",pod=~"gate-sluice-.+""#), "{expression}");
        assert!(rule["annotations"]["summary"].is_string() && rule["for"].is_string(), "{rule}");
    }
    let without = Release::new().objects();
    assert!(without.all("PrometheusRule").is_empty(), "it is disabled by default");
}

#[test]
fn every_alert_stands_in_the_operations_guide() {
    let guide = read("docs/operations.md");
    for rule in alerts(&Release::new().set("metrics.prometheusRule.enabled=true").objects()) {
        let name = text(&rule["alert"]);
        assert!(guide.contains(&format!("`{name}`")), "docs/operations.md does not name {name}");
    }
}

fn alerts(objects: &Objects) -> Vec<Value> {
    objects.one("PrometheusRule")["spec"]["groups"][0]["rules"].as_array().expect("rules").clone()
}
