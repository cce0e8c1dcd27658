//! The publishers: a Deployment behind the Service that clients use.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{EnvVar, Lifecycle, LifecycleHandler, Service, SleepAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::aggregator::used_checksums;
use super::names::Component;
use super::objects::Objects;
use super::{auth, config, durability, meta, pod, redis, set, tls, traces};
use crate::contract::{AGGREGATOR_PORT, PUBLISHER_COMMAND, PUBLISHER_PORT, env};
use crate::controller::plan::{Checksums, Plan};
use crate::crd::DurabilitySetting;

const COMPONENT: Component = Component::Publisher;
/// Seconds for which a stopping publisher still accepts requests. Nodes send requests to it until they have
/// received the new endpoints of the Service.
const PRE_STOP_SECONDS: i64 = 5;
/// Seconds between the shutdown timeout of the program and SIGKILL.
const GRACE_MARGIN: i64 = 10;

/// Adds the objects of the publishers.
pub(super) fn build(plan: &Plan, checksums: &Checksums, objects: &mut Objects) {
    let publisher = &plan.publisher;
    let mut container = pod::container(plan, COMPONENT, &plan.images.publisher);
    container.args = Some(vec![PUBLISHER_COMMAND.to_owned()]);
    let mut variables = redis::client_env(plan);
    let aggregators = plan.names.host(&plan.names.of(Component::Aggregator));
    variables.extend([
        pod::env(env::LISTEN, format!("[::]:{PUBLISHER_PORT}")),
        pod::env(env::QUERY_URL, format!("{}://{aggregators}:{AGGREGATOR_PORT}", tls::scheme(plan))),
        pod::env(env::STREAM_PREFIX, &plan.stream_prefix),
        pod::env(env::STREAMS, plan.streams.to_string()),
        pod::env(env::DEDUP_FIELDS, plan.dedup_fields.clone()),
        pod::env(env::IDEMPOTENCY_TTL, plan.idempotency_ttl.clone()),
        pod::env(env::SHUTDOWN_TIMEOUT, format!("{}s", publisher.shutdown_timeout_seconds)),
    ]);
    variables.extend(durability::variables(plan, DurabilitySetting::is_of_redis));
    let replicas = Some(plan.redis_replicas).filter(|replicas| *replicas > 0);
    variables.extend(replicas.map(|replicas| pod::env(env::REDIS_REPLICAS, replicas.to_string())));
    variables.extend(limits(plan));
    variables.extend(traces::variables(plan));
    container.env = Some(variables);
    container.ports = Some(vec![pod::port("http", PUBLISHER_PORT)]);
    let mut volumes = tls::of_program(plan, COMPONENT, &mut container);
    volumes.extend(auth::of_program(plan, &mut container));
    container.resources = Some(pod::resources(&publisher.resources, "100m", "128Mi"));
    pod::http_probes(&mut container, tls::probed_port(plan));
    container.lifecycle = Some(Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds: PRE_STOP_SECONDS }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    });

    let template = pod::template(
        plan,
        pod::Pod {
            component: COMPONENT,
            user: pod::OUR_USER,
            container,
            volumes,
            checksums: used_checksums(plan, checksums, &[(Component::Redis, config::REDIS_CHECKSUM)]),
            grace: PRE_STOP_SECONDS + i64::from(publisher.shutdown_timeout_seconds) + GRACE_MARGIN,
        },
    );
    objects.service_accounts.push(meta::service_account(plan, COMPONENT));
    objects.services.push(service(plan));
    objects.services.extend(tls::metrics_service(plan));
    objects.disruption_budgets.push(meta::disruption_budget(plan, COMPONENT));
    objects.deployments.push(Deployment {
        metadata: meta::meta(plan, plan.names.of(COMPONENT), COMPONENT),
        spec: Some(DeploymentSpec {
            replicas: publisher.replicas,
            selector: meta::selector(plan, COMPONENT),
            revision_history_limit: Some(set::HISTORY),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                // A new pod must be ready before an old one stops, so that a single publisher is replaced
                // without an interruption.
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    });
}

/// Returns the Service, as its user wants it.
fn service(plan: &Plan) -> Service {
    let wanted = &plan.publisher.service;
    let mut service = tls::with_protocol(plan, set::service(plan, COMPONENT, "http", PUBLISHER_PORT));
    if !wanted.annotations.is_empty() {
        service.metadata.annotations = Some(wanted.annotations.clone());
    }
    let spec = service.spec.get_or_insert_default();
    spec.type_ = Some(wanted.type_.as_str().to_owned());
    spec.load_balancer_class.clone_from(&wanted.load_balancer_class);
    spec.load_balancer_source_ranges = pod::some_vec(wanted.load_balancer_source_ranges.clone());
    spec.external_traffic_policy = wanted.external_traffic_policy.map(|policy| policy.as_str().to_owned());
    service
}

/// Returns the limits that the resource sets. For the others the program has defaults.
fn limits(plan: &Plan) -> Vec<EnvVar> {
    let limits = &plan.publisher.limits;
    let share = plan.idempotency_memory_percent.map(|percent| f64::from(percent) / 100.0);
    let share = share.map(|share| pod::env(env::IDEMPOTENCY_MEMORY, share.to_string()));
    let numbers = [
        (env::MAX_BODY_BYTES, limits.max_body_bytes),
        (env::MAX_EVENTS, limits.max_events.map(i64::from)),
        (env::MAX_PAYLOAD_BYTES, limits.max_payload_bytes),
        (env::MAX_PAYLOAD_DEPTH, limits.max_payload_depth.map(i64::from)),
        (env::MAX_BACKLOG, limits.max_backlog),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(pod::env(name, value?.to_string())));
    share.into_iter().chain(numbers).collect()
}
