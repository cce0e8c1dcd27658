//! Compares the connections that the built NetworkPolicies allow with those that the design requires.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use support::objects;

/// A party inside or outside the cluster.
#[derive(Debug, Clone)]
struct Party {
    name: &'static str,
    /// `None` outside the cluster.
    namespace: Option<&'static str>,
    labels: BTreeMap<String, String>,
    address: &'static str,
}

fn party(name: &'static str, namespace: &'static str, labels: &[(&str, &str)]) -> Party {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Party { name, namespace: Some(namespace), labels, address: "" }
}

fn part(name: &'static str, instance: &str, namespace: &'static str, component: &str) -> Party {
    party(
        name,
        namespace,
        &[
            ("app.kubernetes.io/name", "sluice"),
            ("app.kubernetes.io/instance", instance),
            ("app.kubernetes.io/component", component),
            ("app.kubernetes.io/managed-by", "sluice-operator"),
        ],
    )
}

fn namespace_labels(namespace: &str) -> BTreeMap<String, String> {
    let team = if namespace == "shops" { "web" } else { "other" };
    [("kubernetes.io/metadata.name", namespace), ("team", team)].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    assert!(selector.match_expressions.is_none(), "this test does not support match expressions");
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
}

fn peer_is(policy: &NetworkPolicy, peer: &NetworkPolicyPeer, party: &Party) -> bool {
    if let Some(block) = &peer.ip_block {
        return party.namespace.is_none() && in_range(&block.cidr, party.address);
    }
    let Some(namespace) = party.namespace else { return false };
    let in_namespace = match &peer.namespace_selector {
        Some(selector) => selects(selector, &namespace_labels(namespace)),
        None => policy.metadata.namespace.as_deref() == Some(namespace),
    };
    in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &party.labels))
}

/// Whether the address is in the range. Only ranges of the size /24 are supported: the fixtures use no others.
fn in_range(cidr: &str, address: &str) -> bool {
    cidr.strip_suffix(".0/24").is_some_and(|prefix| address.starts_with(&format!("{prefix}.")))
}

fn port_is(ports: Option<&Vec<NetworkPolicyPort>>, port: i32) -> bool {
    ports.is_none_or(|ports| ports.iter().any(|allowed| allowed.port == Some(IntOrString::Int(port))))
}

/// Whether the policies allow a connection from `from` to `to` at `port`: the egress of one and the ingress of
/// the other.
fn reaches(policies: &[NetworkPolicy], from: &Party, to: &Party, port: i32) -> bool {
    let about = |party: &Party, direction: &str| {
        let party = party.clone();
        let direction = direction.to_owned();
        policies.iter().filter(move |policy| {
            let spec = policy.spec.as_ref().unwrap();
            party.namespace.is_some()
                && policy.metadata.namespace.as_deref() == party.namespace
                && selects(spec.pod_selector.as_ref().unwrap(), &party.labels)
                && spec.policy_types.iter().flatten().any(|name| *name == direction)
        })
    };
    let out: Vec<_> = about(from, "Egress").collect();
    let may_leave = out.is_empty()
        || out.iter().any(|policy| {
            policy.spec.as_ref().unwrap().egress.iter().flatten().any(|rule| {
                port_is(rule.ports.as_ref(), port)
                    && rule.to.as_ref().is_none_or(|peers| peers.iter().any(|peer| peer_is(policy, peer, to)))
            })
        });
    let into: Vec<_> = about(to, "Ingress").collect();
    let may_enter = into.is_empty()
        || into.iter().any(|policy| {
            policy.spec.as_ref().unwrap().ingress.iter().flatten().any(|rule| {
                port_is(rule.ports.as_ref(), port)
                    && rule.from.as_ref().is_none_or(|peers| peers.iter().any(|peer| peer_is(policy, peer, from)))
            })
        });
    may_leave && may_enter
}

/// Returns all connections between the parties that the policies allow and that involve a pod of the resource.
fn arrows(policies: &[NetworkPolicy], ours: &[Party], others: &[Party], ports: &[i32]) -> BTreeSet<String> {
    let all: Vec<_> = ours.iter().chain(others).collect();
    let mut arrows = BTreeSet::new();
    for from in &all {
        for to in &all {
            let is_ours = |party: &Party| ours.iter().any(|our| our.name == party.name);
            if from.name == to.name || !(is_ours(from) || is_ours(to)) {
                continue;
            }
            for &port in ports {
                if reaches(policies, from, to, port) {
                    arrows.insert(format!("{} -> {}:{port}", from.name, to.name));
                }
            }
        }
    }
    arrows
}

fn others() -> Vec<Party> {
    vec![
        party("operator", "tools", &[("app.kubernetes.io/name", "sluice-operator")]),
        party("dns", "kube-system", &[("k8s-app", "kube-dns")]),
        party("client", "shops", &[("app", "shop")]),
        party("prometheus", "monitoring", &[("app", "prometheus")]),
        party("neighbour", "accounts", &[("app", "other")]),
        party("stranger", "elsewhere", &[]),
        // Pods of another resource, one of them in the same namespace.
        part("other-aggregator", "books", "accounts", "aggregator"),
        part("foreign-aggregator", "ledger", "elsewhere", "aggregator"),
        Party { name: "database", namespace: None, labels: BTreeMap::new(), address: "10.1.2.3" },
        Party { name: "internet", namespace: None, labels: BTreeMap::new(), address: "203.0.113.9" },
    ]
}

#[test]
fn with_managed_servers_exactly_the_arrows_of_the_design_are_open() {
    let policies = objects("ledger.yaml").network_policies;
    let ours: Vec<_> =
        [("publisher", "publisher"), ("aggregator", "aggregator"), ("redis", "redis"), ("postgres", "postgres")]
            .map(|(name, component)| part(name, "ledger", "accounts", component))
            .into();
    let open = arrows(&policies, &ours, &others(), &[53, 80, 443, 5353, 5432, 6379, 6380, 8080, 8081]);
    let expected: BTreeSet<_> = [
        "client -> publisher:8080",
        "publisher -> redis:6379",
        "aggregator -> redis:6379",
        "aggregator -> postgres:5432",
        "publisher -> aggregator:8081",
        "operator -> publisher:8080",
        "operator -> aggregator:8081",
        "prometheus -> aggregator:8081",
        "prometheus -> publisher:8080",
        "publisher -> dns:53",
        "publisher -> dns:5353",
        "aggregator -> dns:53",
        "aggregator -> dns:5353",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(open, expected);
}

#[test]
fn with_external_servers_their_ports_are_open_and_clients_are_everybody() {
    let policies = objects("tiny.yaml").network_policies;
    let ours: Vec<_> = [("publisher", "publisher"), ("aggregator", "aggregator")]
        .map(|(name, component)| part(name, "tiny", "edge", component))
        .into();
    let open = arrows(&policies, &ours, &others(), &[53, 80, 443, 5432, 6379, 6380, 8080, 8081]);
    let outside: BTreeSet<_> =
        open.iter().filter(|arrow| arrow.contains("internet") || arrow.contains("database")).collect();
    let expected: Vec<_> = [
        "aggregator -> database:5432",
        "aggregator -> database:6380",
        "aggregator -> internet:6380",
        "database -> publisher:8080",
        "internet -> publisher:8080",
        "publisher -> database:6380",
        "publisher -> internet:6380",
    ]
    .into();
    assert_eq!(outside.into_iter().collect::<Vec<_>>(), expected);
    for client in ["client", "neighbour", "stranger", "operator", "prometheus"] {
        assert!(open.contains(&format!("{client} -> publisher:8080")), "{client}: {open:?}");
    }
    assert!(open.contains("operator -> aggregator:8081"));
    assert!(!open.contains("stranger -> aggregator:8081"), "{open:?}");
}

#[test]
fn programs_reach_the_endpoint_of_spans_and_nothing_else_does() {
    let of = |fixture: &str, name: &str, namespace: &'static str, ports: &[i32]| {
        let components = ["publisher", "aggregator", "redis", "postgres"];
        let ours: Vec<_> = components.map(|component| part(component, name, namespace, component)).into();
        arrows(&objects(fixture).network_policies, &ours, &others(), ports)
    };
    let of_harbor = ["publisher -> database:4317", "aggregator -> database:4317"].map(str::to_owned);
    assert_eq!(of("harbor.yaml", "harbor", "accounts", &[80, 4317, 4318]), of_harbor.into());
    // Without ranges it is every address, and the port of the pods behind a Service replaces that of the URL.
    let open = of("remote.yaml", "remote", "edge", &[443, 4317, 4318]);
    for component in ["publisher", "aggregator"] {
        for to in ["database", "internet", "prometheus", "stranger"] {
            assert!(open.contains(&format!("{component} -> {to}:4318")), "{open:?}");
        }
    }
    assert!(!open.iter().any(|arrow| arrow.ends_with(":443") || arrow.ends_with(":4317")), "{open:?}");
    assert_eq!(of("tiny.yaml", "tiny", "edge", &[4317, 4318]), BTreeSet::new());
}

/// With TLS, metrics and probes are at a port that speaks none.
#[test]
fn the_port_of_metrics_is_open_to_the_operator_and_scrapers_alone() {
    let ours: Vec<_> = [("publisher", "publisher"), ("aggregator", "aggregator")]
        .map(|(name, component)| part(name, "sealed", "accounts", component))
        .into();
    let into = |policies: &[NetworkPolicy]| arrows(policies, &ours, &others(), &[9090]);
    let expected = ["operator", "prometheus"]
        .iter()
        .flat_map(|from| ["publisher", "aggregator"].iter().map(move |to| format!("{from} -> {to}:9090")));
    assert_eq!(into(&objects("sealed.yaml").network_policies), expected.collect::<BTreeSet<_>>());
    // Without scrapers and an operator in the cluster there is nobody. An empty list of peers would allow all.
    let mut resource = support::fixture("sealed.yaml");
    resource.spec.network_policy.scrapers.clear();
    let defaults = sluice_operator::controller::plan::Defaults { operator_namespace: None, ..support::defaults() };
    let plan =
        sluice_operator::controller::validate::validate(&resource, &support::external_secrets(), &defaults, None);
    let built = sluice_operator::controller::build::build(&plan.unwrap(), &Default::default());
    assert_eq!(into(&built.network_policies), BTreeSet::new());
}

#[test]
fn pods_of_backups_reach_postgresql_the_server_of_the_bucket_and_dns_alone() {
    let policies = objects("vault.yaml").network_policies;
    let ours: Vec<_> = [("backup", "backup"), ("postgres", "postgres"), ("aggregator", "aggregator")]
        .map(|(name, component)| part(name, "vault", "edge", component))
        .into();
    let open = arrows(&policies, &ours, &others(), &[53, 80, 443, 5353, 5432, 6379, 8080, 8081, 9000]);
    let of_backups: Vec<_> = open.iter().filter(|arrow| arrow.contains("backup")).map(String::as_str).collect();
    let anybody = ["client", "database", "dns", "foreign-aggregator", "internet"];
    let anybody = anybody.iter().chain(&["neighbour", "operator", "other-aggregator", "prometheus", "stranger"]);
    let mut expected: Vec<_> = anybody.map(|name| format!("backup -> {name}:9000")).collect();
    expected.extend(["backup -> dns:53", "backup -> dns:5353", "backup -> postgres:5432"].map(str::to_owned));
    expected.sort();
    assert_eq!(of_backups, expected);
    assert!(
        !objects("ledger.yaml")
            .network_policies
            .iter()
            .any(|policy| policy.metadata.name.as_deref() == Some("ledger-backup"))
    );
}

/// Its instances have labels of CloudNativePG alone, so that no policy for our pods is about them.
#[test]
fn instances_of_a_cluster_are_reached_by_their_operator_each_other_and_aggregators() {
    let policies = objects("harbor.yaml").network_policies;
    let instance = |name| {
        party(name, "accounts", &[("cnpg.io/cluster", "harbor-postgres"), ("app.kubernetes.io/name", "postgresql")])
    };
    let mut ours: Vec<_> = [("publisher", "publisher"), ("aggregator", "aggregator")]
        .map(|(name, component)| part(name, "harbor", "accounts", component))
        .into();
    ours.extend([instance("first"), instance("second")]);
    let mut others = others();
    others.push(party("cnpg", "cnpg-system", &[("app.kubernetes.io/name", "cloudnative-pg")]));
    let open = arrows(&policies, &ours, &others, &[5432, 8000, 9187]);
    let into: BTreeSet<_> = open.iter().filter(|arrow| arrow.contains("-> first")).map(String::as_str).collect();
    let expected = [
        "aggregator -> first:5432",
        "cnpg -> first:5432",
        "cnpg -> first:8000",
        "prometheus -> first:9187",
        "second -> first:5432",
        "second -> first:8000",
    ];
    assert_eq!(into, expected.into());
    for arrow in ["first -> internet:5432", "first -> cnpg:8000", "first -> dns:8000"] {
        assert!(open.contains(arrow), "instances may connect to whom they need: {open:?}");
    }
    assert!(!open.contains("aggregator -> internet:5432"), "{open:?}");
}

#[test]
fn without_policies_there_are_none() {
    let mut resource = support::fixture("ledger.yaml");
    resource.spec.network_policy.enabled = false;
    let live = support::external_secrets();
    let plan = sluice_operator::controller::validate::validate(&resource, &live, &support::defaults(), None).unwrap();
    assert!(sluice_operator::controller::build::build(&plan, &Default::default()).network_policies.is_empty());
}

#[test]
fn a_server_behind_a_service_with_another_port_is_reached_at_the_port_of_its_pods() {
    let mut text: serde_yaml::Value = serde_yaml::from_str(&support::fixture_text("tiny.yaml")).unwrap();
    text["spec"]["postgres"]["external"]["networkPolicyPort"] = 15_432.into();
    let resource: sluice_operator::crd::EventAggregator = serde_yaml::from_value(text).unwrap();
    let live = support::external_secrets();
    let plan = sluice_operator::controller::validate::validate(&resource, &live, &support::defaults(), None).unwrap();
    let built = sluice_operator::controller::build::build(&plan, &Default::default());
    let ours = [part("aggregator", "tiny", "edge", "aggregator")];
    let open = arrows(&built.network_policies, &ours, &others(), &[5432, 15_432]);
    assert!(open.contains("aggregator -> database:15432"), "{open:?}");
    assert!(!open.contains("aggregator -> database:5432"), "{open:?}");
}
