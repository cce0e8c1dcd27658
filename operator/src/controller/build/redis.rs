//! A managed Redis: one pod that syncs its append-only file to disk before each reply.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::EnvVar;

use super::names::Component;
use super::objects::Objects;
use super::{config, meta, pod, set, tls};
use crate::contract::{REDIS_PORT, env};
use crate::controller::plan::{Backend, Checksums, PASSWORD, Plan, RedisPlan};

const COMPONENT: Component = Component::Redis;
const PASSWORD_VARIABLE: &str = "REDIS_PASSWORD";
/// Seconds from SIGTERM to SIGKILL: longer than `shutdown-timeout` in `redis.conf`.
const GRACE: i64 = 45;

/// Adds the objects of a managed Redis.
pub(super) fn build(plan: &Plan, redis: &RedisPlan, checksums: &Checksums, objects: &mut Objects) {
    let files = files(plan, redis);
    let mut container = pod::container(plan, COMPONENT, &plan.images.redis);
    container.command = Some(config::command());
    let secret = plan.names.of(COMPONENT);
    container.env = Some(vec![
        pod::env_secret(PASSWORD_VARIABLE, &secret, PASSWORD),
        // `redis-cli` in the probes reads its password from here.
        pod::env_secret("REDISCLI_AUTH", &secret, PASSWORD),
    ]);
    container.ports = Some(vec![pod::port("redis", REDIS_PORT)]);
    container.resources = Some(pod::server_resources(&redis.cpu, redis.memory));
    container.volume_mounts = Some(vec![pod::mount("data", "/data"), pod::mount("config", config::DIRECTORY)]);
    // 900 times 2 s: loading a long append-only file takes time, and until then Redis replies LOADING.
    let ping = if plan.tls.is_some() { PING_TLS } else { PING };
    container.startup_probe = Some(pod::shell_probe(ping, 2, 5, 900));
    container.readiness_probe = Some(pod::shell_probe(ping, 10, 5, 3));
    container.liveness_probe = Some(pod::shell_probe(ping, 20, 15, 6));
    let mut volumes = vec![config::volume(&plan.names.of(COMPONENT))];
    volumes.extend(tls::of_server(plan, COMPONENT, &mut container));

    let template = pod::template(
        plan,
        pod::Pod {
            component: COMPONENT,
            user: pod::SERVER_USER,
            container,
            volumes,
            checksums: BTreeMap::from([
                (config::CONFIG_CHECKSUM.to_owned(), config::checksum(&files)),
                (config::REDIS_CHECKSUM.to_owned(), checksums.get(&COMPONENT).cloned().unwrap_or_default()),
            ]),
            grace: GRACE,
        },
    );
    let stateful_set = set::stateful_set(plan, COMPONENT, 1, plan.names.of(COMPONENT), template);
    objects.service_accounts.push(meta::service_account(plan, COMPONENT));
    objects.config_maps.push(config::config_map(plan, COMPONENT, files));
    objects.services.push(set::service(plan, COMPONENT, "redis", REDIS_PORT));
    objects.disruption_budgets.push(meta::disruption_budget(plan, COMPONENT));
    objects.stateful_sets.push(set::with_volume(plan, COMPONENT, &redis.volume, stateful_set));
}

/// The lines of the configuration with TLS: the server has no other port.
const TLS_PORT: &str = "\
port 0
tls-port 6379
tls-cert-file /etc/sluice-tls/server/tls.crt
tls-key-file /etc/sluice-tls/server/tls.key
tls-auth-clients no
";
/// Shell line of the probes.
const PING: &str = "test \"$(redis-cli ping)\" = PONG";
/// The same with TLS. The certificate is not checked: this is a connection within the pod, and a certificate that has
/// ended must not make Kubernetes kill the server.
const PING_TLS: &str = "test \"$(redis-cli --tls --insecure ping)\" = PONG";

fn files(plan: &Plan, redis: &RedisPlan) -> BTreeMap<String, String> {
    // While Redis rewrites the append-only file in a forked process, each page that changes exists twice. On the
    // volume the data can exist four times, see the check of `storage.size` in `validate`. The volume can be smaller
    // than asked for, when it cannot grow.
    let maxmemory = redis.max_memory().to_string();
    // The upper bound keeps the time short in which Redis reads the file at its start.
    let rewrite = ((redis.volume.bytes >> 20) / 8).clamp(16, 512).to_string();
    let text = include_str!("redis.conf").replace("{maxmemory}", &maxmemory).replace("{rewrite}", &rewrite);
    let (text, start) = match plan.tls {
        Some(_) => (text.replace(&format!("port {REDIS_PORT}\n"), TLS_PORT), include_str!("redis-tls.sh")),
        None => (text, include_str!("redis.sh")),
    };
    let quoted = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    let parameters = redis.parameters.iter().map(|(name, value)| format!("{name} {}\n", quoted(value)));
    let text = text + &parameters.collect::<String>();
    BTreeMap::from([(config::START.to_owned(), start.to_owned()), ("redis.conf".to_owned(), text)])
}

/// Returns the variables with which our programs connect to Redis.
pub(super) fn client_env(plan: &Plan) -> Vec<EnvVar> {
    match &plan.redis {
        Backend::External(external) => {
            let mut variables = vec![pod::env_secret(env::REDIS_URL, &external.secret, &external.key)];
            if let Some(sentinel) = &plan.sentinel {
                variables.extend(sentinel.user.iter().map(|user| pod::env(env::REDIS_SENTINEL_USER, user.clone())));
                let (secret, key) = (&sentinel.secret_name, &sentinel.secret_key);
                variables.push(pod::env_secret(env::REDIS_SENTINEL_PASSWORD, secret, key));
            }
            variables
        }
        Backend::Cluster(never) => match *never {},
        Backend::Managed(_) => {
            let name = plan.names.of(COMPONENT);
            let scheme = if plan.tls.is_some() { "rediss" } else { "redis" };
            let url = format!("{scheme}://:$({PASSWORD_VARIABLE})@{}:{REDIS_PORT}/0", plan.names.host(&name));
            // The order matters: a variable can refer only to variables before it.
            vec![pod::env_secret(PASSWORD_VARIABLE, &name, PASSWORD), pod::env(env::REDIS_URL, url)]
        }
    }
}
