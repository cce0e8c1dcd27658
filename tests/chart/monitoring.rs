//! What the Prometheus Operator reads: ServiceMonitor, PodMonitor and alerts; and the dashboards for Grafana.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::helm::{Objects, Release, read, text};

/// The parts of each section of the runbooks, in their order.
const PARTS: [&str; 4] = ["What it means.", "How bad.", "What to do.", "How to see that it worked."];

#[test]
fn a_monitor_of_pods_takes_the_place_of_that_of_the_service() {
    let objects = Release::new().set("metrics.podMonitor.enabled=true").objects();
    assert!(objects.all("ServiceMonitor").is_empty());
    let monitor = &objects.one("PodMonitor")["spec"];
    let labels = &objects.one("Deployment")["spec"]["template"]["metadata"]["labels"];
    let selector = monitor["selector"]["matchLabels"].as_object().expect("a selector");
    assert!(selector.iter().all(|(name, value)| labels[name] == *value), "{selector:?} and {labels}");
    let endpoint = json!([{"port": "http", "path": "/metrics", "interval": "30s", "honorLabels": true}]);
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
fn each_alert_is_about_metrics_of_this_release_alone() {
    let objects = Release::named("gate", "dam").set("metrics.prometheusRule.enabled=true").objects();
    let rules = alerts(&objects);
    assert_eq!(rules.len(), of_operator().len());
    for rule in rules {
        let expression = text(&rule["expr"]);
        let metrics: Vec<_> = expression.match_indices("sluice_operator_").map(|(at, _)| &expression[at..]).collect();
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            let (name, labels) = metric.split_once('{').unwrap_or_else(|| panic!("no labels in {expression}"));
            // The namespace of the other metrics is that of an EventAggregator.
            let of_resource = name.starts_with("sluice_operator_resource_");
            let own = r#"namespace="dam",pod=~"gate-sluice-.+""#;
            let expected = if of_resource { own.trim_start_matches(r#"namespace="dam","#) } else { own };
            let after = labels.strip_prefix(expected).unwrap_or_else(|| panic!("{labels} in {expression}"));
            assert!(after.starts_with([',', '}']), "{expression}");
        }
        assert!(rule["annotations"]["summary"].is_string() && rule["for"].is_string(), "{rule}");
    }
    let without = Release::new().objects();
    assert!(without.all("PrometheusRule").is_empty(), "it is disabled by default");
}

#[test]
fn alerts_dashboards_and_the_operator_lead_to_the_runbooks_of_the_value() {
    let address = "https://runbooks.example/sluice";
    let objects = Release::new()
        .set("metrics.prometheusRule.enabled=true")
        .set("metrics.prometheusRule.alertLabels.severity=page")
        .set("metrics.dashboards.enabled=true")
        .set(&format!("metrics.runbookUrl={address}"))
        .objects();
    for rule in alerts(&objects) {
        let anchor = text(&rule["alert"]).to_lowercase();
        assert_eq!(rule["annotations"]["runbook_url"], format!("{address}#{anchor}"));
        assert_eq!(rule["labels"]["severity"], "page", "the value replaces the label of the chart");
    }
    assert_eq!(objects.env("SLUICE_RUNBOOK_URL"), Some(address));
    for (_, dashboard) in dashboards(&objects) {
        let variables = dashboard["templating"]["list"].as_array().expect("variables");
        let runbooks = variables.iter().find(|variable| variable["name"] == "runbooks").expect("the variable");
        assert_eq!(runbooks["current"]["value"], address);
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let runbooks = read("docs/runbooks.md");
    let sections: BTreeMap<_, _> =
        runbooks.split("\n## ").skip(1).map(|section| section.split_once('\n').expect("a text")).collect();
    let alerts: BTreeSet<_> = rules().into_iter().map(|rule| text(&rule["alert"]).to_owned()).collect();
    let documented: BTreeSet<_> = sections.keys().map(|&name| name.to_owned()).collect();
    assert_eq!(documented, alerts);
    for (name, section) in sections {
        let places: Vec<_> = PARTS.iter().map(|part| section.find(&format!("\n**{part}**"))).collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{name} has not all parts in order: {places:?}"
        );
    }
    for rule in rules() {
        let severity = text(&rule["labels"]["severity"]);
        let section = runbooks.split(&format!("\n## {}\n", text(&rule["alert"]))).nth(1).expect("the section");
        let bad = section.split("**How bad.** ").nth(1).expect("how bad it is").to_lowercase();
        assert!(bad.starts_with(severity), "the runbook of {} does not begin with {severity}", text(&rule["alert"]));
    }
}

/// The links of the runbooks to other sections, which no reader in need should follow in vain.
#[test]
fn every_link_of_the_runbooks_leads_to_a_section() {
    let anchors = |document: &str| -> BTreeSet<String> {
        let headings = document.lines().filter_map(|line| line.strip_prefix('#'));
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let anchor = |heading: &str| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            text.chars().filter(kept).collect::<String>().replace(' ', "-")
        };
        headings.map(anchor).collect()
    };
    let runbooks = read("docs/runbooks.md");
    let links: Vec<_> = runbooks.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 20);
    for link in links {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let document = if path.is_empty() { runbooks.clone() } else { read(&format!("docs/{path}")) };
        assert!(anchor.is_empty() || anchors(&document).contains(anchor), "{link} leads nowhere");
    }
}

#[test]
fn the_dashboards_are_those_of_the_repository_and_their_metrics_exist() {
    let objects = Release::new().set("metrics.dashboards.enabled=true").objects();
    let of_chart = dashboards(&objects);
    assert_eq!(of_chart.len(), 3);
    let documented = read("docs/metrics.md");
    for (name, dashboard) in of_chart {
        let file = read(&format!("observability/grafana/{name}"));
        assert_eq!(
            dashboard,
            serde_json::from_str::<Value>(&file).expect("JSON"),
            "{name}: observability/grafana/generate"
        );
        let mut queries = Vec::new();
        strings(&dashboard, &mut queries);
        let words = queries.iter().flat_map(|query| query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
        let metrics: BTreeSet<_> = words.filter(|word| word.starts_with("sluice_") || *word == PROCESS).collect();
        assert!(metrics.len() > 5, "{name}: {metrics:?}");
        for metric in metrics {
            let metric = metric.trim_end_matches("_bucket");
            assert!(documented.contains(&format!("| `{metric}` |")), "{name}: {metric} is not in docs/metrics.md");
        }
    }
    assert!(Release::new().objects().all("ConfigMap").is_empty(), "they are disabled by default");
}

#[test]
fn each_panel_says_what_it_shows_and_links_to_runbooks_that_exist() {
    let alerts: BTreeSet<_> = rules().into_iter().map(|rule| text(&rule["alert"]).to_lowercase()).collect();
    let mut linked = BTreeSet::new();
    for (name, dashboard) in dashboards(&Release::new().set("metrics.dashboards.enabled=true").objects()) {
        for panel in dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row") {
            let described = panel["description"].as_str().is_some_and(|description| description.len() > 15);
            assert!(described && panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {panel}");
            for link in panel["links"].as_array().into_iter().flatten() {
                let anchor = text(&link["url"]).strip_prefix("${runbooks}#").expect("a runbook").to_owned();
                assert!(alerts.contains(&anchor), "{name}: {anchor}");
                linked.insert(anchor);
            }
        }
    }
    assert!(linked.len() > 20, "{linked:?}");
}

/// The metric of memory, which all programs have under the name that is usual.
const PROCESS: &str = "process_resident_memory_bytes";

fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(members) => members.values().for_each(|member| strings(member, found)),
        _ => {}
    }
}

/// Returns the dashboards in the ConfigMaps by the names of their files.
fn dashboards(objects: &Objects) -> BTreeMap<String, Value> {
    let maps = objects.all("ConfigMap").into_iter().filter(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1");
    let files = maps.flat_map(|map| map["data"].as_object().expect("data").clone());
    files.map(|(name, content)| (name, serde_json::from_str(text(&content)).expect("JSON"))).collect()
}

/// Returns all rules, as files have them.
fn rules() -> Vec<Value> {
    let programs = rules_in("observability/prometheus/rules.yaml");
    programs.into_iter().chain(of_operator()).collect()
}

fn of_operator() -> Vec<Value> {
    rules_in("charts/sluice/files/operator-rules.yaml")
}

fn rules_in(path: &str) -> Vec<Value> {
    let file: Value = serde_yaml::from_str(&read(path)).expect("YAML");
    file["groups"][0]["rules"].as_array().expect("rules").clone()
}

fn alerts(objects: &Objects) -> Vec<Value> {
    objects.one("PrometheusRule")["spec"]["groups"][0]["rules"].as_array().expect("rules").clone()
}
