//! The aggregators: a StatefulSet, so that the number of consumer names in the group is bounded and a
//! restarted replica finds its own pending entries.
//!
//! The program itself prepares the tables at its start, under an advisory lock and before it reads the
//! streams, and is ready only after that. An init container would do the same work at every start, and
//! no earlier.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Volume};

use super::names::Component;
use super::objects::Objects;
use super::{auth, config, durability, meta, pod, postgres, redis, set, tls, traces};
use crate::contract::{AGGREGATOR_COMMAND, AGGREGATOR_PORT, METERS_FILE, SCHEMAS_FILE, env};
use crate::controller::plan::{Checksums, Plan};

const COMPONENT: Component = Component::Aggregator;
/// Where the files of meters and of schemas are, and the name of their volume.
const DEFINITIONS: &str = "/etc/sluice-definitions";
const VOLUME: &str = "definitions";
/// Seconds between the shutdown timeout of the program and SIGKILL. The program needs them to leave the
/// consumer group and to close its connections.
const GRACE_MARGIN: i64 = 15;

/// Adds the objects of the aggregators.
pub(super) fn build(plan: &Plan, checksums: &Checksums, objects: &mut Objects) {
    let aggregator = &plan.aggregator;
    let mut container = pod::container(plan, COMPONENT, &plan.images.aggregator);
    container.args = Some(vec![AGGREGATOR_COMMAND.to_owned()]);
    let mut variables = redis::client_env(plan);
    variables.extend(postgres::client_env(plan));
    variables.extend([
        pod::env_pod_name(env::CONSUMER),
        pod::env(env::LISTEN, format!("[::]:{AGGREGATOR_PORT}")),
        pod::env(env::STREAM_PREFIX, &plan.stream_prefix),
        pod::env(env::STREAMS, plan.streams.to_string()),
        pod::env(env::DATABASE_SCHEMA, &plan.schema),
        pod::env(env::DEDUP_FIELDS, plan.dedup_fields.clone()),
        pod::env(env::WORKERS, aggregator.workers.to_string()),
        pod::env(env::CLAIM_AFTER, aggregator.claim_after.clone()),
        pod::env(env::CONSUMER_TTL, aggregator.consumer_ttl.clone()),
        pod::env(env::IDEMPOTENCY_TTL, plan.idempotency_ttl.clone()),
        pod::env(env::SHUTDOWN_TIMEOUT, format!("{}s", aggregator.shutdown_timeout_seconds)),
    ]);
    variables.extend(durability::variables(plan, |_| true));
    variables.extend(traces::variables(plan));
    variables.extend(plan.retention.iter().map(|time| pod::env(env::RETENTION, time.clone())));
    variables.extend(plan.meters.iter().map(|_| pod::env(env::METERS, format!("{DEFINITIONS}/{METERS_FILE}"))));
    variables.extend(plan.schemas.iter().map(|_| pod::env(env::SCHEMAS, format!("{DEFINITIONS}/{SCHEMAS_FILE}"))));
    container.env = Some(variables);
    container.ports = Some(vec![pod::port("http", AGGREGATOR_PORT)]);
    let mut volumes = tls::of_program(plan, COMPONENT, &mut container);
    volumes.extend(auth::of_program(plan, &mut container));
    volumes.extend(definitions(plan, &mut container, objects));
    container.resources = Some(pod::resources(&aggregator.resources, "100m", "128Mi"));
    pod::http_probes(&mut container, tls::probed_port(plan));

    let used = [(Component::Redis, config::REDIS_CHECKSUM), (Component::Postgres, config::POSTGRES_CHECKSUM)];
    let used = used_checksums(plan, checksums, &used);
    let template = pod::template(
        plan,
        pod::Pod {
            component: COMPONENT,
            user: pod::OUR_USER,
            container,
            volumes,
            checksums: used,
            grace: i64::from(aggregator.shutdown_timeout_seconds) + GRACE_MARGIN,
        },
    );
    objects.service_accounts.push(meta::service_account(plan, COMPONENT));
    objects.services.push(tls::with_metrics(plan, set::service(plan, COMPONENT, "http", AGGREGATOR_PORT)));
    objects.services.push(pods_service(plan));
    objects.disruption_budgets.push(meta::disruption_budget(plan, COMPONENT));
    let service = plan.names.aggregator_pods();
    objects.stateful_sets.push(set::stateful_set(plan, COMPONENT, aggregator.replicas, service, template));
}

/// Adds the files of meters and of schemas. They are part of no hash: the program reads a changed file by itself.
fn definitions(plan: &Plan, container: &mut Container, objects: &mut Objects) -> Option<Volume> {
    let files = [(METERS_FILE, &plan.meters), (SCHEMAS_FILE, &plan.schemas)];
    let files: BTreeMap<_, _> =
        files.into_iter().filter_map(|(name, file)| Some((name.to_owned(), file.clone()?))).collect();
    if files.is_empty() {
        return None;
    }
    objects.config_maps.push(config::config_map(plan, COMPONENT, files));
    let mut mount = pod::mount(VOLUME, DEFINITIONS);
    mount.read_only = Some(true);
    container.volume_mounts.get_or_insert_default().push(mount);
    Some(Volume { name: VOLUME.to_owned(), ..config::volume(&plan.names.of(COMPONENT)) })
}

/// Returns the headless Service that gives each pod a DNS name. A pod that is not ready has one too, because the
/// operator asks the pod itself for the reason.
fn pods_service(plan: &Plan) -> k8s_openapi::api::core::v1::Service {
    let mut service = set::service(plan, COMPONENT, "http", AGGREGATOR_PORT);
    service.metadata.name = Some(plan.names.aggregator_pods());
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = Some("None".to_owned());
        spec.publish_not_ready_addresses = Some(true);
    }
    service
}

/// Returns the annotations that make Kubernetes replace the pods when a Secret they use changes.
pub(super) fn used_checksums(
    plan: &Plan,
    checksums: &Checksums,
    used: &[(Component, &str)],
) -> BTreeMap<String, String> {
    let pairs =
        used.iter().filter_map(|(component, name)| Some(((*name).to_owned(), checksums.get(component)?.clone())));
    pairs.chain(traces::checksum(plan)).collect()
}
