//! Each value has an effect: a value that no template reads would be accepted, and do nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::helm::{Release, leaves, read};

/// What every rendering of this file has set, so that optional objects exist.
const BASE: &str = r#"replicas=2,networkPolicy={"enabled":true},metrics={"serviceMonitor":{"enabled":true},"prometheusRule":{"enabled":true},"dashboards":{"enabled":true}},test={"resource":"shop"}"#;

/// Each value, another value than the default as JSON, and what must be set beside it to have an effect.
const CASES: &[(&str, &str, &str)] = &[
    ("replicas", "3", ""),
    ("namespaces", r#"["till-7"]"#, ""),
    ("crds.enabled", "false", ""),
    ("crds.keep", "false", ""),
    ("crds.annotations", r#"{"note":"water-7"}"#, ""),
    ("crds.labels", r#"{"note":"water-7"}"#, ""),
    ("imageRegistry", r#""mirror-7.example""#, ""),
    ("image.repository", r#""team/operator-7""#, ""),
    ("image.tag", r#""tag-7""#, ""),
    ("image.digest", DIGEST, ""),
    ("imagePullPolicy", r#""Never""#, ""),
    ("imagePullSecrets", r#"[{"name":"key-7"}]"#, ""),
    ("images.aggregator.repository", r#""team/a-7""#, ""),
    ("images.aggregator.tag", r#""tag-7""#, ""),
    ("images.aggregator.digest", DIGEST, ""),
    ("images.publisher.repository", r#""team/p-7""#, ""),
    ("images.publisher.tag", r#""tag-7""#, ""),
    ("images.publisher.digest", DIGEST, ""),
    ("images.redis.repository", r#""team/r-7""#, ""),
    ("images.redis.tag", r#""tag-7""#, ""),
    ("images.redis.digest", DIGEST, ""),
    ("images.postgres.repository", r#""team/g-7""#, ""),
    ("images.postgres.tag", r#""tag-7""#, ""),
    ("images.postgres.digest", DIGEST, ""),
    ("fixedUserIds", "false", ""),
    ("secretSelector", r#""readable=7""#, ""),
    ("nameOverride", r#""weir-7""#, ""),
    ("fullnameOverride", r#""weir-7""#, ""),
    ("namespaceOverride", r#""dam-7""#, ""),
    ("log", r#""debug-7""#, ""),
    ("extraArgs", r#"["--seven=7"]"#, ""),
    ("extraEnv", r#"[{"name":"SEVEN","value":"is-7"}]"#, ""),
    ("labels", r#"{"note":"water-7"}"#, ""),
    ("annotations", r#"{"note":"water-7"}"#, ""),
    ("deploymentAnnotations", r#"{"note":"water-7"}"#, ""),
    ("podLabels", r#"{"note":"water-7"}"#, ""),
    ("podAnnotations", r#"{"note":"water-7"}"#, ""),
    ("serviceAccount.create", "false", r#"serviceAccount.name="keeper""#),
    ("serviceAccount.name", r#""keeper-7""#, ""),
    ("serviceAccount.annotations", r#"{"note":"water-7"}"#, ""),
    ("serviceAccount.automountServiceAccountToken", "true", ""),
    ("automountServiceAccountToken", "false", r#"volumes=[{"name":"token"}]"#),
    ("rbac.create", "false", ""),
    ("rbac.userRoles", "false", ""),
    ("resources.requests.cpu", r#""77m""#, ""),
    ("resources.requests.memory", r#""77Mi""#, ""),
    ("resources.limits.memory", r#""777Mi""#, ""),
    ("podSecurityContext.runAsNonRoot", "false", ""),
    ("podSecurityContext.seccompProfile.type", r#""Localhost-7""#, ""),
    ("containerSecurityContext.allowPrivilegeEscalation", "true", ""),
    ("containerSecurityContext.readOnlyRootFilesystem", "false", ""),
    ("containerSecurityContext.capabilities.drop", r#"["NET_RAW"]"#, ""),
    ("strategy.type", r#""Recreate""#, ""),
    ("strategy.rollingUpdate.maxSurge", r#""77%""#, ""),
    ("strategy.rollingUpdate.maxUnavailable", "7", ""),
    ("revisionHistoryLimit", "77", ""),
    ("terminationGracePeriodSeconds", "77", ""),
    ("livenessProbe.initialDelaySeconds", "77", ""),
    ("livenessProbe.periodSeconds", "77", ""),
    ("livenessProbe.timeoutSeconds", "77", ""),
    ("livenessProbe.failureThreshold", "77", ""),
    ("readinessProbe.initialDelaySeconds", "77", ""),
    ("readinessProbe.periodSeconds", "77", ""),
    ("readinessProbe.timeoutSeconds", "77", ""),
    ("readinessProbe.failureThreshold", "77", ""),
    ("volumes", r#"[{"name":"disk-7","emptyDir":{}}]"#, ""),
    ("volumeMounts", r#"[{"name":"disk","mountPath":"/at-7"}]"#, r#"volumes=[{"name":"disk"}]"#),
    ("hostNetwork", "true", "networkPolicy.enabled=false"),
    ("dnsPolicy", r#""Default""#, ""),
    ("dnsConfig", r#"{"searches":["search-7.example"]}"#, ""),
    ("nodeSelector", r#"{"disk":"fast-7"}"#, ""),
    ("tolerations", r#"[{"key":"wet-7"}]"#, ""),
    ("affinity", r#"{"nodeAffinity":{"note":"water-7"}}"#, ""),
    ("priorityClassName", r#""high-7""#, ""),
    ("topologySpreadConstraints", r#"[{"topologyKey":"zone-7"}]"#, ""),
    ("podDisruptionBudget.enabled", "false", ""),
    ("podDisruptionBudget.maxUnavailable", r#""77%""#, ""),
    ("networkPolicy.enabled", "false", ""),
    ("networkPolicy.from", r#"[{"podSelector":{"matchLabels":{"note":"water-7"}}}]"#, ""),
    ("networkPolicy.apiServer.ports", "[7777]", ""),
    ("networkPolicy.apiServer.cidrs", r#"["10.7.7.7/32"]"#, ""),
    ("networkPolicy.dns.ports", "[7777]", ""),
    ("networkPolicy.extraIngress", r#"[{"ports":[{"port":7777}]}]"#, ""),
    ("networkPolicy.extraEgress", r#"[{"ports":[{"port":7777}]}]"#, ""),
    ("metrics.port", "7777", ""),
    ("metrics.annotations", r#"{"note":"water-7"}"#, ""),
    ("metrics.labels", r#"{"note":"water-7"}"#, ""),
    ("metrics.ipFamilyPolicy", r#""PreferDualStack""#, ""),
    ("metrics.ipFamilies", r#"["IPv6"]"#, ""),
    ("metrics.serviceMonitor.enabled", "false", ""),
    ("metrics.serviceMonitor.interval", r#""77s""#, ""),
    ("metrics.serviceMonitor.labels", r#"{"note":"water-7"}"#, ""),
    ("metrics.serviceMonitor.annotations", r#"{"note":"water-7"}"#, ""),
    ("metrics.serviceMonitor.endpointAdditionalProperties", r#"{"scrapeTimeout":"7s"}"#, ""),
    ("metrics.podMonitor.enabled", "true", "metrics.serviceMonitor.enabled=false"),
    ("metrics.podMonitor.interval", r#""77s""#, POD_MONITOR),
    ("metrics.podMonitor.labels", r#"{"note":"water-7"}"#, POD_MONITOR),
    ("metrics.podMonitor.annotations", r#"{"note":"water-7"}"#, POD_MONITOR),
    ("metrics.podMonitor.endpointAdditionalProperties", r#"{"scrapeTimeout":"7s"}"#, POD_MONITOR),
    ("metrics.prometheusRule.enabled", "false", ""),
    ("metrics.prometheusRule.labels", r#"{"note":"water-7"}"#, ""),
    ("metrics.prometheusRule.annotations", r#"{"note":"water-7"}"#, ""),
    ("metrics.prometheusRule.alertLabels", r#"{"severity":"page-7"}"#, ""),
    ("metrics.runbookUrl", r#""https://runbooks-7.example""#, ""),
    ("metrics.dashboards.enabled", "false", ""),
    ("metrics.dashboards.namespace", r#""graphs-7""#, ""),
    ("metrics.dashboards.labels", r#"{"note":"water-7"}"#, ""),
    ("metrics.dashboards.annotations", r#"{"note":"water-7"}"#, ""),
    ("test.resource", r#""till-7""#, ""),
    ("test.tls", "true", r#"test.resource="till""#),
    ("test.caSecret", r#""ca-7""#, r#"test.resource="till",test.tls=true"#),
    ("test.tokenSecret.name", r#""token-7""#, r#"test.resource="till""#),
    ("test.tokenSecret.key", r#""key-7""#, r#"test.resource="till",test.tokenSecret.name="token""#),
    ("test.publish", "false", ""),
    ("test.namespace", r#""desk-7""#, ""),
    ("extraObjects", r#"[{"kind":"Kind-7"}]"#, ""),
];

const DIGEST: &str = r#""sha256:7777777777777777777777777777777777777777777777777777777777777777""#;
const POD_MONITOR: &str = "metrics.serviceMonitor.enabled=false,metrics.podMonitor.enabled=true";

#[test]
fn the_cases_are_all_values() {
    let values: Value = serde_yaml::from_str(&read("charts/sluice/values.yaml")).expect("YAML");
    let mut paths = BTreeSet::new();
    leaves("", &values, &mut paths);
    let cases: BTreeSet<String> = CASES.iter().map(|(path, ..)| (*path).to_owned()).collect();
    assert_eq!(cases, paths, "tests/chart/effects.rs and values.yaml");
}

#[test]
fn each_value_changes_what_is_rendered_and_appears_in_it() {
    let mut bases: BTreeMap<&str, String> = BTreeMap::new();
    for (path, value, beside) in CASES {
        let base = bases.entry(beside).or_insert_with(|| release(beside).text());
        let text = release(beside).set_json(&format!("{path}={value}")).text();
        let before: BTreeSet<&str> = base.lines().collect();
        let changed: String =
            text.lines().filter(|line| !before.contains(line)).map(|line| format!("{line}\n")).collect();
        assert!(text != *base, "{path} has no effect");
        let mut scalars = Vec::new();
        texts(&serde_json::from_str(value).expect("JSON"), &mut scalars);
        for scalar in scalars {
            // A line that there is elsewhere too is no changed one.
            let found = changed.contains(&scalar) || text.matches(&scalar).count() > base.matches(&scalar).count();
            assert!(found, "{path}: {scalar} is not in what it changes:\n{changed}");
        }
    }
}

fn release(beside: &str) -> Release {
    let release = Release::named("gate", "dam").set_json(BASE);
    if beside.is_empty() { release } else { release.set_json(beside) }
}

/// Adds all keys, texts and numbers of a value.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                found.push(key.clone());
                texts(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::String(text) => found.push(text.clone()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Bool(_) | Value::Null => {}
    }
}
