//! Alerts as rules of Prometheus.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Alert, OF_OPERATOR, OF_PROGRAMS};

/// The name of a resource in the texts of rules that are about all of them.
const ANY_RESOURCE: &str = "{{ $labels.namespace }}/{{ $labels.eventaggregator }}";

/// The alerts of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// Those about publishers and aggregators of all resources
    Programs,
    /// Those about the operator and the state of resources
    Operator,
}

impl Set {
    /// Returns the argument of the command that prints the set, and the alerts.
    const fn alerts(self) -> (&'static str, &'static [Alert]) {
        match self {
            Self::Programs => ("programs", OF_PROGRAMS),
            Self::Operator => ("operator", OF_OPERATOR),
        }
    }
}

/// Alerts that are evaluated together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The alerts.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    #[serde(default)]
    pub alert: String,
    /// The expression that has a value when something is wrong.
    pub expr: String,
    /// For how long it must have one.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<String>,
    /// Labels of the alert.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What a person reads.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Returns the alerts of a resource.
pub fn of_resource(namespace: &str, name: &str, runbooks: &str) -> Group {
    // These labels hold whoever reads the metrics: also where no PodMonitor of the operator sets that of the resource.
    let labels = format!("namespace=\"{namespace}\",pod=~\"{name}-(publisher|aggregator)-.+\"");
    let rules = OF_PROGRAMS.iter().map(|alert| {
        let mut rule = rule(alert, &labels, &format!("{namespace}/{name}"), runbooks);
        rule.labels.insert("namespace".to_owned(), namespace.to_owned());
        rule.labels.insert("eventaggregator".to_owned(), name.to_owned());
        rule
    });
    Group { name: format!("sluice.{namespace}.{name}"), rules: rules.collect() }
}

/// Returns a file with alerts about all resources, for a Prometheus that does not read PrometheusRules.
///
/// # Errors
/// When they cannot be written as YAML.
pub fn file(set: Set, runbooks: &str) -> Result<String, serde_yaml::Error> {
    let (name, alerts) = set.alerts();
    let rules = alerts.iter().map(|alert| rule(alert, "", ANY_RESOURCE, runbooks));
    let group = Group { name: format!("sluice-{name}"), rules: rules.collect() };
    let yaml = serde_yaml::to_string(&BTreeMap::from([("groups", [group])]))?;
    Ok(format!(
        "# `sluice-operator rules {name}` prints this file: do not edit it. --runbook-url sets the links.\n{yaml}"
    ))
}

fn rule(alert: &Alert, labels: &str, resource: &str, runbooks: &str) -> Rule {
    let annotations = [
        ("summary", alert.summary.replace('@', resource)),
        ("description", alert.description.replace('@', resource)),
        ("runbook_url", format!("{runbooks}#{}", alert.name.to_lowercase())),
    ];
    Rule {
        alert: alert.name.to_owned(),
        expr: alert.expression(labels),
        for_: alert.for_.map(str::to_owned),
        labels: BTreeMap::from([("severity".to_owned(), alert.severity.as_str().to_owned())]),
        annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::alerts::RUNBOOKS;

    fn document(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    }

    #[test]
    fn the_files_for_prometheus_and_for_the_chart_are_what_the_program_prints() {
        for (set, path) in [
            (Set::Programs, "observability/prometheus/rules.yaml"),
            (Set::Operator, "observability/prometheus/operator-rules.yaml"),
            (Set::Operator, "charts/sluice/files/operator-rules.yaml"),
        ] {
            let command = format!("`sluice-operator rules {}`", set.alerts().0);
            assert!(document(path) == file(set, RUNBOOKS).unwrap(), "{path}: write what {command} prints into it");
        }
    }

    #[test]
    fn the_alerts_of_a_resource_are_about_its_pods_alone_and_name_it() {
        let group = of_resource("till", "shop", "https://runbooks.example/sluice");
        assert_eq!(group.rules.len(), OF_PROGRAMS.len());
        for rule in &group.rules {
            let names: Vec<_> = rule.expr.match_indices("sluice_").map(|(at, _)| &rule.expr[at..]).collect();
            let first_label = |rest: &str| {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
                rest[end..].starts_with("{namespace=\"till\",pod=~\"shop-(publisher|aggregator)-.+\"")
            };
            assert!(names.into_iter().all(first_label) && rule.expr.contains("\"till\""), "{}", rule.expr);
            assert!(!rule.expr.contains(['@', '*']), "{}", rule.expr);
            assert!(rule.annotations["summary"].contains("till/shop"), "{rule:?}");
            let url = format!("https://runbooks.example/sluice#{}", rule.alert.to_lowercase());
            assert_eq!(rule.annotations["runbook_url"], url);
            assert_eq!(rule.labels["eventaggregator"], "shop");
        }
    }

    #[test]
    fn every_metric_in_an_alert_is_documented() {
        let documented = document("docs/metrics.md");
        for alert in OF_PROGRAMS.iter().chain(OF_OPERATOR) {
            let expression = alert.expression("");
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for name in words.filter(|word| word.starts_with("sluice_")) {
                let name = name.trim_end_matches("_bucket");
                assert!(documented.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
            }
        }
    }

    #[test]
    fn no_two_alerts_have_one_name() {
        let names: BTreeSet<_> = OF_PROGRAMS.iter().chain(OF_OPERATOR).map(|alert| alert.name).collect();
        assert_eq!(names.len(), OF_PROGRAMS.len() + OF_OPERATOR.len());
    }
}
