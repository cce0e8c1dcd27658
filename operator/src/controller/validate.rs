//! Fourth step: checks the spec and the Secrets it refers to, and computes the plan. It is pure: it
//! sends no requests.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Resource;

use super::build::http_route::HttpRoute;
use super::build::monitors::pod_monitor::PodMonitor;
use super::build::monitors::prometheus_rule::PrometheusRule;
use super::build::names::{Component, Names, pvc_of};
use super::cidr::check_cidrs;
use super::error::{Error, Result};
use super::external_tls;
use super::fetch::Live;
use super::plan::{
    AggregatorPlan, Backend, Defaults, ExternalPlan, Images, NetworkPlan, PASSWORD, Plan, PostgresBackend,
    PostgresPlan, PublisherPlan, RedisPlan, RestorePlan, Restores, names_of,
};
use super::tls::check;
use super::tls::plan::TlsPlan;
use super::upgrade::estimate::Estimate;
use super::upgrade::{self, Serving};
use super::volume_plan::volume;
use super::{auth, publisher_autoscaling, server_url, topic_schemas, traces};
use super::{backup, cloud_native_pg, connections, image_plan};
use crate::contract::{POSTGRES_PORT, REDIS_PORT};
use crate::crd::meters;
use crate::crd::{
    AggregatorSpec, EventAggregator, EventAggregatorSpec, ExternalSpec, HttpRouteSpec, ManagedRedis, MonitoringSpec,
    NetworkPolicySpec, PodMonitorSpec, PrometheusRuleSpec, PublisherSpec, Resources,
};
use crate::quantity;

/// The schemes of URLs of Redis.
const REDIS_SCHEMES: [&str; 6] =
    ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];
/// Bytes in a mebibyte.
const MIB: i64 = 1 << 20;

/// Checks everything that the schema cannot check. `decided` is the latest decision of autoscaling.
///
/// # Errors
/// [`Error::Invalid`] with the path of a field whose value cannot work, and [`Error::SecretMissing`] or
/// [`Error::SecretInvalid`] for a Secret that cannot be used.
pub fn validate(resource: &EventAggregator, live: &Live, defaults: &Defaults, decided: Option<i32>) -> Result<Plan> {
    let names = names_of(resource);
    check_name(&names.name)?;
    let owner = resource
        .controller_owner_ref(&())
        .ok_or_else(|| Error::Unparsable("the object has no name or no uid".into()))?;
    let spec = &resource.spec;
    check_resources("spec.aggregator.resources", &spec.aggregator.resources)?;
    check_resources("spec.publisher.resources", &spec.publisher.resources)?;
    let ranges = &spec.publisher.service.load_balancer_source_ranges;
    check_cidrs("spec.publisher.service.loadBalancerSourceRanges", ranges)?;
    let replicas = replicas(&spec.aggregator, live, &names, decided);
    let Servers { redis, postgres, waits_for, images, serving } = servers(resource, live, &names, defaults)?;
    connections::check(&spec.aggregator, replicas, live, &postgres)?;
    let certified = certified(&redis, &postgres);
    let (restore, asked, upgraded) = replaced(resource, live, &names, (&redis, &postgres, &serving), defaults)?;
    // An aggregator would store into what is being replaced or copied.
    let waits_for = waits_for.filter(|_| replicas > 0);
    let is_held = restore.is_some() || waits_for.is_some() || upgraded.holds_aggregators();
    let replicas = if is_held { 0 } else { replicas };
    let (pod_monitor, prometheus_rule) = monitors(&spec.monitoring, live);
    Ok(Plan {
        owner,
        generation: resource.metadata.generation.unwrap_or_default(),
        deletion_policy: spec.deletion_policy,
        images,
        dedup_fields: spec.dedup_fields.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(","),
        streams: spec.streams,
        stream_prefix: spec.redis.stream_prefix.clone().unwrap_or_else(|| names.stream_prefix()),
        schema: spec.postgres.schema.clone().unwrap_or_else(|| names.schema()),
        retention: spec.retention.clone(),
        idempotency_ttl: spec.idempotency_ttl.clone(),
        idempotency_memory_percent: spec.idempotency_memory_percent,
        meters: (!spec.meters.is_empty()).then(|| meters::file(&spec.meters)),
        schemas: topic_schemas::file(spec)?,
        durability: spec.durability.clone(),
        aggregator: aggregator(&spec.aggregator, replicas, waits_for),
        publisher: publisher(&spec.publisher, live, &names)?,
        redis,
        sentinel: spec.redis.sentinel.clone(),
        redis_replicas: spec.redis.replicas,
        postgres,
        upgrade: upgraded.upgrade,
        next: upgraded.next,
        previous: upgraded.previous,
        restore,
        asked,
        network: network(&spec.network_policy, defaults)?,
        pod_monitor,
        prometheus_rule,
        autoscaling_conflicts: autoscaling_conflicts(spec, live),
        hibernated: spec.hibernated,
        auth: auth::validate::validate(spec.auth.as_ref(), live, &names)?,
        tls: TlsPlan::new(&spec.tls, &names, &certified),
        tracing: traces::validate::validate(spec, live)?,
        fixed_user_ids: defaults.fixed_user_ids,
        secret_labels: defaults.secret_selector.as_deref().map(labels_in),
        runbooks: defaults.runbooks.clone(),
        names,
    })
}

/// Returns the labels in a selector of the form `KEY=VALUE,…`.
fn labels_in(selector: &str) -> BTreeMap<String, String> {
    let labels = selector.split(',').filter_map(|label| label.split_once('='));
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn aggregator(spec: &AggregatorSpec, replicas: i32, waits_for: Option<String>) -> AggregatorPlan {
    AggregatorPlan {
        replicas,
        waits_for,
        workers: spec.workers,
        claim_after: spec.claim_after.clone(),
        consumer_ttl: spec.consumer_ttl.clone(),
        shutdown_timeout_seconds: spec.shutdown_timeout_seconds,
        resources: spec.resources.clone(),
        pods: spec.pods.clone(),
    }
}

fn publisher(spec: &PublisherSpec, live: &Live, names: &Names) -> Result<PublisherPlan> {
    Ok(PublisherPlan {
        replicas: publisher_autoscaling::replicas(spec, live, names),
        autoscaling: publisher_autoscaling::own(spec, live).cloned(),
        limits: spec.limits.clone(),
        service: spec.service.clone(),
        ingress: spec.ingress.clone(),
        http_route: http_route(spec, live)?,
        shutdown_timeout_seconds: spec.shutdown_timeout_seconds,
        resources: spec.resources.clone(),
        pods: spec.pods.clone(),
    })
}

/// The servers of a resource.
struct Servers {
    redis: Backend<RedisPlan>,
    postgres: PostgresBackend,
    /// What aggregators wait for before they start with it.
    waits_for: Option<String>,
    images: Images,
    /// The PostgreSQL that serves.
    serving: Serving,
}

fn servers(resource: &EventAggregator, live: &Live, names: &Names, defaults: &Defaults) -> Result<Servers> {
    let spec = &resource.spec;
    // Redis comes first: events reach it first, so its fault is the first to mend.
    let redis = redis(spec, live, names)?;
    let serving = upgrade::serving(resource, live, names);
    let images = image_plan::images(spec, live, defaults, &serving)?;
    let (postgres, waits_for) = postgres(spec, live, names, &serving, &images)?;
    Ok(Servers { redis, postgres, waits_for, images, serving })
}

/// Returns what replaces the content of PostgreSQL, or PostgreSQL itself.
fn replaced(
    resource: &EventAggregator,
    live: &Live,
    names: &Names,
    (redis, postgres, serving): (&Backend<RedisPlan>, &PostgresBackend, &Serving),
    defaults: &Defaults,
) -> Result<(Option<RestorePlan>, Restores, upgrade::Upgraded)> {
    let (mut restore, asked) = backup::restore(resource, live, names)?;
    let max_memory = redis.managed().map(RedisPlan::max_memory);
    let estimate = Estimate::new(live.measured.as_ref(), max_memory, &resource.spec.publisher.limits);
    if let (Some(restore), Ok(estimate)) = (&mut restore, &estimate) {
        restore.estimate = Some(estimate.text());
    }
    let upgrade = upgrade::Asked { resource, live, names, serving, restores: restore.is_some(), estimate };
    Ok((restore, asked, upgrade.plan(postgres.managed(), defaults)?))
}

/// Returns the components that have a certificate: those that the operator runs and that serve others, and the clients of
/// the aggregators.
fn certified(redis: &Backend<RedisPlan>, postgres: &PostgresBackend) -> Vec<Component> {
    let servers = [(redis.is_managed(), Component::Redis), (postgres.is_managed(), Component::Postgres)];
    let managed = servers.into_iter().filter_map(|(managed, component)| managed.then_some(component));
    [Component::Publisher, Component::Aggregator, Component::Client].into_iter().chain(managed).collect()
}

/// Checks the name. A rule of the schema does so too, but an object can be older than that rule.
fn check_name(name: &str) -> Result<()> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(inner);
    if fits {
        Ok(())
    } else {
        Err(Error::invalid("metadata.name", "must be a DNS-1035 label of at most 40 characters"))
    }
}

fn check_resources(field: &str, resources: &Resources) -> Result<()> {
    for (part, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, amount) in amounts {
            quantity::milli(amount).map_err(|message| Error::invalid(format!("{field}.{part}.{name}"), message))?;
        }
    }
    for (name, request) in &resources.requests {
        let Some(limit) = resources.limits.get(name) else { continue };
        if quantity::milli(request) > quantity::milli(limit) {
            return Err(Error::invalid(format!("{field}.requests.{name}"), "must not be greater than the limit"));
        }
    }
    Ok(())
}

/// Returns the route, if the cluster has the Gateway API.
fn http_route(spec: &PublisherSpec, live: &Live) -> Result<Option<HttpRouteSpec>> {
    let route = spec.http_route.clone();
    if route.is_some() && live.lacks.contains(HttpRoute::plural(&()).as_ref()) {
        let message =
            "the cluster has no HTTPRoutes of gateway.networking.k8s.io/v1: install the Gateway API, or remove it";
        return Err(Error::invalid("spec.publisher.httpRoute", message));
    }
    Ok(route)
}

/// Returns the number of aggregators: that of the spec, or with autoscaling the latest decision. Before
/// the first decision it is the current number.
fn replicas(aggregator: &AggregatorSpec, live: &Live, names: &Names, decided: Option<i32>) -> i32 {
    match &aggregator.autoscaling {
        // If another autoscaler sets `replicas`, the operator must not also do so: each would undo the
        // changes of the other.
        Some(scaling) if live.autoscalers.is_empty() => {
            let name = names.of(Component::Aggregator);
            let sets = live.objects.stateful_sets.iter();
            let current = sets
                .filter(|set| set.metadata.name.as_ref() == Some(&name))
                .find_map(|set| set.spec.as_ref().and_then(|spec| spec.replicas));
            let max = scaling.max_replicas.max(scaling.min_replicas);
            decided.or(current).unwrap_or(scaling.min_replicas).clamp(scaling.min_replicas, max)
        }
        _ => aggregator.replicas,
    }
}

/// Returns what Prometheus is told, as far as the cluster has the kinds for it.
fn monitors(spec: &MonitoringSpec, live: &Live) -> (Option<PodMonitorSpec>, Option<PrometheusRuleSpec>) {
    let has = |kind: &str| !live.lacks.contains(kind);
    let monitor = Some(&spec.pod_monitor).filter(|wanted| wanted.enabled && has(&PodMonitor::plural(&())));
    let rule = Some(&spec.prometheus_rule).filter(|wanted| wanted.enabled && has(&PrometheusRule::plural(&())));
    (monitor.cloned(), rule.cloned())
}

/// Names the HorizontalPodAutoscalers of others because of which the operator does not scale.
fn autoscaling_conflicts(spec: &EventAggregatorSpec, live: &Live) -> Vec<String> {
    let conflict = |others: &[String], target: &str, field: &str| {
        let other = others.first()?;
        Some(format!("HorizontalPodAutoscaler {other} scales {target}, so spec.{field}.autoscaling has no effect"))
    };
    let aggregator = conflict(&live.autoscalers, "this resource", "aggregator");
    let publisher = spec.publisher.autoscaling.as_ref();
    let publisher = publisher.and_then(|_| conflict(&live.publisher_autoscalers, "the publishers", "publisher"));
    aggregator.into_iter().chain(publisher).collect()
}

fn redis(spec: &EventAggregatorSpec, live: &Live, names: &Names) -> Result<Backend<RedisPlan>> {
    if let Some(external) = &spec.redis.external {
        let plan = external_plan("spec.redis.external", external, live, &REDIS_SCHEMES, REDIS_PORT)?;
        check_sentinel(spec, live)?;
        external_tls::redis(external, live, spec.tls.enabled)?;
        return Ok(Backend::External(plan));
    }
    check_password(live, names, Component::Redis)?;
    check_volume_of_redis(&spec.redis.managed)?;
    let managed = &spec.redis.managed;
    Ok(Backend::Managed(RedisPlan {
        volume: volume("spec.redis.managed.storage", &managed.storage, live, &names.pvc(Component::Redis))?,
        memory: memory("spec.redis.managed.memory", &managed.memory, 64 * MIB)?,
        cpu: cpu("spec.redis.managed.cpu", &managed.cpu)?,
        pods: managed.pods.clone(),
        parameters: managed.parameters.clone(),
    }))
}

/// Returns PostgreSQL, and what aggregators wait for before they start with it.
fn postgres(
    spec: &EventAggregatorSpec,
    live: &Live,
    names: &Names,
    serving: &Serving,
    images: &Images,
) -> Result<(PostgresBackend, Option<String>)> {
    if let Some(cluster) = &spec.postgres.cloud_native_pg {
        check_resources("spec.postgres.cloudNativePG.resources", &cluster.resources)?;
        let (plan, waits_for) = cloud_native_pg::validate(cluster, live, names)?;
        return Ok((Backend::Cluster(plan), waits_for));
    }
    if let Some(external) = &spec.postgres.external {
        let plan = external_plan("spec.postgres.external", external, live, &["postgres", "postgresql"], POSTGRES_PORT)?;
        external_tls::postgres(external, live, spec.tls.enabled)?;
        return Ok((Backend::External(plan), None));
    }
    check_password(live, names, Component::Postgres)?;
    let managed = &spec.postgres.managed;
    let plan = PostgresPlan {
        volume: volume("spec.postgres.managed.storage", &managed.storage, live, &pvc_of(&serving.set))?,
        memory: memory("spec.postgres.managed.memory", &managed.memory, 128 * MIB)?,
        cpu: cpu("spec.postgres.managed.cpu", &managed.cpu)?,
        pods: managed.pods.clone(),
        parameters: managed.parameters.clone(),
        version: serving.version,
        image: images.postgres.clone(),
        set: serving.set.clone(),
        begins_empty: serving.suffix.is_some(),
        backup: backup::backup(spec, live, names)?,
    };
    Ok((Backend::Managed(plan), None))
}

/// Checks that the password of the Sentinels is there.
fn check_sentinel(spec: &EventAggregatorSpec, live: &Live) -> Result<()> {
    let Some(sentinel) = &spec.redis.sentinel else { return Ok(()) };
    let (name, key) = (sentinel.secret_name.clone(), sentinel.secret_key.clone());
    match live.secrets.get(&name).and_then(|secret| value(secret, &key)) {
        Some(_) => Ok(()),
        None => Err(Error::SecretMissing { field: "spec.redis.sentinel.secretName".to_owned(), name, key }),
    }
}

/// Checks that the volume of Redis has room for all that its memory can cause. Events take at most half of the memory
/// (`maxmemory`), and can be on the volume four times: in the base file, in the commands since then, which start a
/// rewrite when they are as long as the base file, in the new base file, and in the commands during the rewrite. A rule
/// of the schema does so too, but an object can be older than that rule.
fn check_volume_of_redis(managed: &ManagedRedis) -> Result<()> {
    let (Ok(size), Ok(memory)) = (quantity::milli(&managed.storage.size), quantity::milli(&managed.memory)) else {
        // The checks of the single fields say so.
        return Ok(());
    };
    if size < 2 * memory {
        let (field, memory) = ("spec.redis.managed.storage.size", &managed.memory.0);
        let message = format!(
            "must be at least twice spec.redis.managed.memory, which is {memory}: otherwise the disk could be full before the append-only file is rewritten"
        );
        return Err(Error::invalid(field, message));
    }
    Ok(())
}

fn memory(field: &str, memory: &Quantity, min: i64) -> Result<i64> {
    let bytes = quantity::whole(memory).map_err(|message| Error::invalid(field, message))?;
    if bytes < min {
        return Err(Error::invalid(field, format!("must be at least {}Mi", min / MIB)));
    }
    Ok(bytes)
}

fn cpu(field: &str, cpu: &Quantity) -> Result<Quantity> {
    quantity::milli(cpu).map_err(|message| Error::invalid(field, message))?;
    Ok(cpu.clone())
}

/// Checks that a password, which may have been set by hand, needs no escaping in a URL or in a
/// configuration file.
fn check_password(live: &Live, names: &Names, component: Component) -> Result<()> {
    let name = names.of(component);
    let Some(secret) = live.secrets.get(&name) else { return Ok(()) };
    let password = value(secret, PASSWORD).unwrap_or_default();
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    if password.is_empty() || !password.iter().all(safe) {
        let message = "must not be empty and must consist of letters, digits and the characters -._~".to_owned();
        return Err(Error::SecretInvalid { name, key: PASSWORD.to_owned(), message });
    }
    Ok(())
}

fn external_plan(
    field: &str,
    external: &ExternalSpec,
    live: &Live,
    schemes: &[&str],
    default_port: i32,
) -> Result<ExternalPlan> {
    let (name, key) = (external.secret_ref.name.clone(), external.secret_ref.key.clone());
    check_cidrs(&format!("{field}.cidrs"), &external.cidrs)?;
    let Some(url) = live.secrets.get(&name).and_then(|secret| value(secret, &key)) else {
        return Err(Error::SecretMissing { field: format!("{field}.secretRef"), name, key });
    };
    match server_url::ports(url, schemes, default_port, external.network_policy_port) {
        Some(ports) => {
            check::external(live, field, external.ca_secret.as_ref(), external.cert_secret.as_ref())?;
            let ca = external.ca_secret.as_ref().map(|secret| (secret.name.clone(), secret.key.clone()));
            let cert = external.cert_secret.as_ref().map(|secret| secret.name.clone());
            let fails_over = server_url::fails_over(url);
            Ok(ExternalPlan { secret: name, key, fails_over, ports, ca, cert, cidrs: external.cidrs.clone() })
        }
        None => {
            let message = format!("must be a URL of the form {}://USER:PASSWORD@HOST:PORT/…", schemes[0]);
            Err(Error::SecretInvalid { name, key, message })
        }
    }
}

pub(super) fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|value| value.0.as_slice())
}

fn network(spec: &NetworkPolicySpec, defaults: &Defaults) -> Result<Option<NetworkPlan>> {
    check_cidrs("spec.networkPolicy.dns.cidrs", &spec.dns.cidrs)?;
    Ok(spec.enabled.then(|| NetworkPlan {
        dns: spec.dns.clone(),
        clients: spec.clients.clone(),
        scrapers: spec.scrapers.clone(),
        operator_namespace: defaults.operator_namespace.clone(),
    }))
}
