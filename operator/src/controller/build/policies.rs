//! The NetworkPolicies. All connections are denied except these:
//!
//! clients → publisher → Redis ← aggregators → PostgreSQL, publisher → aggregators (queries),
//! operator → publisher and aggregators (backlog and totals), publisher and aggregators → DNS and the endpoint of spans, and
//! backups → PostgreSQL, S3 and DNS.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::cloud_native_pg;
use super::meta::{meta, owned, selector};
use super::names::{Component, operator_labels};
use super::objects::Objects;
use super::pod::some_vec;
use crate::contract::{AGGREGATOR_PORT, METRICS_PORT, POSTGRES_PORT, PUBLISHER_PORT, REDIS_PORT};
use crate::controller::cloud_native_pg::plan::ClusterPlan;
use crate::controller::plan::{Backend, ExternalPlan, NetworkPlan, Plan};
use crate::crd::Peer;

/// The port at which an instance tells its operator and the other instances how it is.
const INSTANCE_STATUS_PORT: i32 = 8000;
/// The port of the metrics of an instance.
const INSTANCE_METRICS_PORT: i32 = 9187;

/// Adds the NetworkPolicies, if the plan has any.
pub(super) fn build(plan: &Plan, objects: &mut Objects) {
    let Some(network) = &plan.network else { return };
    objects.network_policies.push(default_deny(plan));
    objects.network_policies.push(publisher(plan, network));
    objects.network_policies.push(aggregator(plan, network));
    let backups = backups(plan, network);
    if plan.redis.is_managed() {
        let users = vec![pods_of(plan, Component::Publisher), pods_of(plan, Component::Aggregator)];
        objects.network_policies.push(policy(plan, Component::Redis, vec![ingress(REDIS_PORT, users)], Vec::new()));
    }
    if plan.postgres.is_managed() {
        let mut users = vec![pods_of(plan, Component::Aggregator)];
        if backups.is_some() {
            users.push(pods_of(plan, Component::Backup));
        }
        let ingress = vec![ingress(POSTGRES_PORT, users)];
        objects.network_policies.push(policy(plan, Component::Postgres, ingress, Vec::new()));
    }
    if let Backend::Cluster(cluster) = &plan.postgres {
        objects.network_policies.push(instances(plan, network, cluster));
    }
    objects.network_policies.extend(backups);
}

/// Returns the policy of the instances of a Cluster of CloudNativePG. Only who may connect to them is limited: they need
/// the API server and object stores, whose addresses are not known. Their operator asks each of them how it is, and they
/// copy from each other.
fn instances(plan: &Plan, network: &NetworkPlan, cluster: &ClusterPlan) -> NetworkPolicy {
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(labels(cluster.spec.operator.namespace_labels.clone())),
        pod_selector: Some(labels(cluster.spec.operator.pod_labels.clone())),
        ..NetworkPolicyPeer::default()
    };
    let users = vec![pods_of(plan, Component::Aggregator), instances_of(plan), operator.clone()];
    let mut into =
        vec![ingress(POSTGRES_PORT, users), ingress(INSTANCE_STATUS_PORT, vec![instances_of(plan), operator])];
    if !network.scrapers.is_empty() {
        into.push(ingress(INSTANCE_METRICS_PORT, network.scrapers.iter().map(peer).collect()));
    }
    let mut policy = policy(plan, Component::Postgres, into, Vec::new());
    if let Some(spec) = &mut policy.spec {
        spec.pod_selector = Some(cloud_native_pg::instances(plan));
        (spec.policy_types, spec.egress) = (Some(vec!["Ingress".to_owned()]), None);
    }
    policy
}

fn instances_of(plan: &Plan) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(cloud_native_pg::instances(plan)), ..NetworkPolicyPeer::default() }
}

/// Returns the policy of the pods that store and restore backups, if there are any: to PostgreSQL and to the S3 server,
/// whose addresses are not known.
fn backups(plan: &Plan, network: &NetworkPlan) -> Option<NetworkPolicy> {
    let places = plan.backup().map(|backup| &backup.place).into_iter().chain(plan.restore.as_ref().map(|r| &r.place));
    let places: Vec<_> = places.collect();
    if places.is_empty() && plan.next.is_none() {
        return None;
    }
    let ports: BTreeSet<_> = places.iter().filter_map(|place| place.s3.as_ref()).map(|s3| s3.port).collect();
    let mut out = vec![dns(network), to_postgres(plan)];
    out.extend(ports.into_iter().map(|port| egress(port, Vec::new())));
    Some(policy(plan, Component::Backup, Vec::new(), out))
}

fn publisher(plan: &Plan, network: &NetworkPlan) -> NetworkPolicy {
    let clients: Vec<_> = network.clients.iter().map(peer).collect();
    // An empty list of peers allows all, so nobody is added to it.
    let others = operator(network).into_iter().chain(network.scrapers.iter().map(peer));
    let from = if clients.is_empty() { clients } else { clients.into_iter().chain(others).collect() };
    let to_aggregators = egress(AGGREGATOR_PORT, vec![pods_of(plan, Component::Aggregator)]);
    let mut out = vec![dns(network), to_redis(plan), to_aggregators];
    out.extend(to_issuer(plan));
    out.extend(to_collector(plan));
    let mut into = vec![ingress(PUBLISHER_PORT, from)];
    into.extend(metrics(plan, network));
    policy(plan, Component::Publisher, into, out)
}

fn aggregator(plan: &Plan, network: &NetworkPlan) -> NetworkPolicy {
    let mut from = vec![pods_of(plan, Component::Publisher)];
    from.extend(operator(network));
    from.extend(network.scrapers.iter().map(peer));
    let mut out = vec![dns(network), to_redis(plan), to_postgres(plan)];
    out.extend(to_issuer(plan));
    out.extend(to_collector(plan));
    let mut into = vec![ingress(AGGREGATOR_PORT, from)];
    into.extend(metrics(plan, network));
    policy(plan, Component::Aggregator, into, out)
}

/// Returns the rule for the port of metrics and probes, which speaks no TLS. Nobody may use it if there is neither an
/// operator in the cluster nor a scraper: a rule without peers would allow all. Kubernetes allows the probes of the node.
fn metrics(plan: &Plan, network: &NetworkPlan) -> Option<NetworkPolicyIngressRule> {
    let from: Vec<_> = operator(network).into_iter().chain(network.scrapers.iter().map(peer)).collect();
    (plan.has_metrics_port() && !from.is_empty()).then(|| ingress(METRICS_PORT, from))
}

/// Returns the rule for the public keys of the issuer of JWTs.
fn to_issuer(plan: &Plan) -> Option<NetworkPolicyEgressRule> {
    let (jwt, port) = plan.auth.as_ref()?.jwt.as_ref()?;
    Some(egress(*port, jwt.cidrs.iter().map(|cidr| block(cidr)).collect()))
}

/// Returns the rule for the endpoint of spans.
fn to_collector(plan: &Plan) -> Option<NetworkPolicyEgressRule> {
    let tracing = plan.tracing.as_ref()?;
    Some(egress(tracing.port, tracing.cidrs.iter().map(|cidr| block(cidr)).collect()))
}

fn to_redis(plan: &Plan) -> NetworkPolicyEgressRule {
    match &plan.redis {
        Backend::Managed(_) => egress(REDIS_PORT, vec![pods_of(plan, Component::Redis)]),
        Backend::Cluster(never) => match *never {},
        Backend::External(external) => to_external(external),
    }
}

fn to_postgres(plan: &Plan) -> NetworkPolicyEgressRule {
    match &plan.postgres {
        Backend::Managed(_) => egress(POSTGRES_PORT, vec![pods_of(plan, Component::Postgres)]),
        Backend::Cluster(_) => egress(POSTGRES_PORT, vec![instances_of(plan)]),
        Backend::External(external) => to_external(external),
    }
}

fn to_external(external: &ExternalPlan) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        ports: Some(external.ports.iter().map(|number| port("TCP", *number)).collect()),
        to: some_vec(external.cidrs.iter().map(|cidr| block(cidr)).collect()),
    }
}

fn dns(network: &NetworkPlan) -> NetworkPolicyEgressRule {
    let pods = NetworkPolicyPeer {
        namespace_selector: Some(labels(network.dns.namespace_labels.clone())),
        pod_selector: Some(labels(network.dns.pod_labels.clone())),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicyEgressRule {
        // The DNS servers of OpenShift listen at 5353 behind a Service with the port 53. What counts is the port of
        // the pod.
        ports: Some(vec![port("UDP", 53), port("TCP", 53), port("UDP", 5353), port("TCP", 5353)]),
        to: Some(std::iter::once(pods).chain(network.dns.cidrs.iter().map(|cidr| block(cidr))).collect()),
    }
}

/// Returns the policy that denies all pods of the resource all connections, in both directions.
fn default_deny(plan: &Plan) -> NetworkPolicy {
    NetworkPolicy {
        metadata: owned(plan, plan.names.default_deny(), plan.names.common_labels()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels(plan.names.selector_of_pods())),
            policy_types: Some(both()),
            ingress: Some(Vec::new()),
            egress: Some(Vec::new()),
        }),
    }
}

/// Returns the policy of a component. Empty lists of rules are set too, so that a rule that somebody adds
/// counts as drift.
fn policy(
    plan: &Plan,
    component: Component,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: meta(plan, plan.names.of(component), component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(plan, component)),
            policy_types: Some(both()),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    }
}

fn both() -> Vec<String> {
    vec!["Ingress".to_owned(), "Egress".to_owned()]
}

fn ingress(number: i32, from: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule { ports: Some(vec![port("TCP", number)]), from: some_vec(from) }
}

fn egress(number: i32, to: Vec<NetworkPolicyPeer>) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { ports: Some(vec![port("TCP", number)]), to: some_vec(to) }
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        ..NetworkPolicyPort::default()
    }
}

/// Selects the pods of a component of the same resource.
fn pods_of(plan: &Plan, component: Component) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(selector(plan, component)), ..NetworkPolicyPeer::default() }
}

fn peer(peer: &Peer) -> NetworkPolicyPeer {
    let namespace = Some(&peer.namespace_labels).filter(|labels| !labels.is_empty());
    NetworkPolicyPeer {
        namespace_selector: namespace.map(|namespace| labels(namespace.clone())),
        pod_selector: Some(labels(peer.pod_labels.clone())),
        ..NetworkPolicyPeer::default()
    }
}

fn operator(network: &NetworkPlan) -> Option<NetworkPolicyPeer> {
    let namespace = network.operator_namespace.clone()?;
    let namespace = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace)]);
    Some(NetworkPolicyPeer {
        namespace_selector: Some(labels(namespace)),
        pod_selector: Some(labels(operator_labels())),
        ..NetworkPolicyPeer::default()
    })
}

fn block(cidr: &str) -> NetworkPolicyPeer {
    let block = IPBlock { cidr: cidr.to_owned(), except: None };
    NetworkPolicyPeer { ip_block: Some(block), ..NetworkPolicyPeer::default() }
}

/// Returns a selector of these labels. Without labels it selects everything.
fn labels(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: some_map(labels), ..LabelSelector::default() }
}

fn some_map(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    Some(map).filter(|map| !map.is_empty())
}
