//! A managed PostgreSQL: one pod, tuned for its memory.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{EnvVar, ExecAction, Lifecycle, LifecycleHandler, Service};

use super::names::{Component, INCOMPLETE, MAJOR_VARIABLE};
use super::objects::Objects;
use super::{config, meta, pod, set, tls, tuning};
use crate::contract::{POSTGRES_PORT, env};
use crate::controller::plan::{Backend, Checksums, DATABASE, PASSWORD, Plan, PostgresPlan};

const COMPONENT: Component = Component::Postgres;
const PASSWORD_VARIABLE: &str = "POSTGRES_PASSWORD";
/// A directory in the volume. The root of the volume belongs to the file system and can contain
/// `lost+found`, which `initdb` refuses.
const DATA_DIRECTORY: &str = "/data/pgdata";
/// Seconds from SIGTERM to SIGKILL: longer than the 100 s of `pg_ctl stop` below.
const GRACE: i64 = 120;

/// Adds the objects of a managed PostgreSQL, and those of the server that an upgrade fills.
pub(super) fn build(plan: &Plan, postgres: &PostgresPlan, checksums: &Checksums, objects: &mut Objects) {
    objects.service_accounts.push(meta::service_account(plan, COMPONENT));
    objects.services.push(service(plan, plan.names.of(COMPONENT), &postgres.set));
    objects.disruption_budgets.push(meta::disruption_budget(plan, COMPONENT));
    server(plan, postgres, checksums, objects);
    if let Some(next) = &plan.next {
        objects.services.push(service(plan, next.set.clone(), &next.set));
        server(plan, next, checksums, objects);
    }
}

/// Returns a Service that leads to the server of a StatefulSet. While a resource is upgraded it has two.
fn service(plan: &Plan, name: String, of: &str) -> Service {
    let mut service = set::service(plan, COMPONENT, "postgres", POSTGRES_PORT);
    service.metadata.name = Some(name);
    let selector = service.spec.get_or_insert_default().selector.get_or_insert_default();
    selector.insert(POD_NAME.to_owned(), format!("{of}-0"));
    service
}

/// The label that Kubernetes gives to each pod of a StatefulSet.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label of the pods of all servers but the first one of a resource, with their major version.
const MAJOR: &str = "sluice.dev/postgres-version";

/// Adds the objects of one server.
fn server(plan: &Plan, postgres: &PostgresPlan, checksums: &Checksums, objects: &mut Objects) {
    let files = files(plan, postgres);
    let mut container = pod::container(plan, COMPONENT, &postgres.image);
    container.command = Some(config::command());
    container.env = Some(vec![
        pod::env("PGDATA", DATA_DIRECTORY),
        pod::env(MAJOR_VARIABLE, postgres.version.to_string()),
        pod::env_secret(PASSWORD_VARIABLE, &plan.names.of(COMPONENT), PASSWORD),
    ]);
    container.ports = Some(vec![pod::port("postgres", POSTGRES_PORT)]);
    container.resources = Some(pod::server_resources(&postgres.cpu, postgres.memory));
    container.volume_mounts = Some(vec![
        pod::mount("data", "/data"),
        pod::mount("config", config::DIRECTORY),
        pod::mount("run", "/var/run/postgresql"),
        pod::mount("tmp", "/tmp"),
        pod::mount("shm", "/dev/shm"),
    ]);
    // 900 times 2 s: recovery after a crash can take many minutes, and must not be interrupted.
    container.startup_probe = Some(pod::shell_probe("pg_isready -q -U sluice", 2, 5, 900));
    container.readiness_probe = Some(pod::shell_probe("pg_isready -q -U sluice", 10, 5, 3));
    // Exit code 1 means that the server refuses connections because it is recovering. Killing it then would
    // make the recovery begin again.
    container.liveness_probe = Some(pod::shell_probe("pg_isready -q -U sluice || test $? -eq 1", 20, 15, 6));
    let mut volumes = vec![
        config::volume(&postgres.set),
        pod::scratch("run"),
        pod::scratch("tmp"),
        // The default of the container runtime is 64 MB, which is too small for parallel queries.
        pod::memory_volume("shm", postgres.memory / 4),
    ];
    volumes.extend(tls::of_server(plan, COMPONENT, &mut container));
    // On SIGTERM alone PostgreSQL waits until all clients have disconnected.
    let stop = ExecAction { command: Some(pod::shell("pg_ctl stop -D \"$PGDATA\" -m fast -w -t 100")) };
    container.lifecycle = Some(Lifecycle {
        pre_stop: Some(LifecycleHandler { exec: Some(stop), ..LifecycleHandler::default() }),
        ..Lifecycle::default()
    });

    let template = pod::template(
        plan,
        pod::Pod {
            component: COMPONENT,
            user: pod::SERVER_USER,
            container,
            volumes,
            checksums: BTreeMap::from([
                (config::CONFIG_CHECKSUM.to_owned(), config::checksum(&files)),
                (config::POSTGRES_CHECKSUM.to_owned(), checksums.get(&COMPONENT).cloned().unwrap_or_default()),
            ]),
            grace: GRACE,
        },
    );
    let mut stateful_set = set::stateful_set(plan, COMPONENT, 1, plan.names.of(COMPONENT), template);
    stateful_set.metadata.name = Some(postgres.set.clone());
    let mut config_map = config::config_map(plan, COMPONENT, files);
    config_map.metadata.name = Some(postgres.set.clone());
    objects.config_maps.push(config_map);
    let mut stateful_set = set::with_volume(plan, COMPONENT, &postgres.volume, stateful_set);
    if postgres.begins_empty {
        of_major(postgres.version, &mut stateful_set);
    }
    objects.stateful_sets.push(stateful_set);
}

/// Tells the pods of a server from those of the former one, and marks its volume as incomplete.
fn of_major(version: i32, set: &mut StatefulSet) {
    let spec = set.spec.get_or_insert_default();
    spec.selector.match_labels.get_or_insert_default().insert(MAJOR.to_owned(), version.to_string());
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(MAJOR.to_owned(), version.to_string());
    for claim in spec.volume_claim_templates.iter_mut().flatten() {
        let annotations = claim.metadata.annotations.get_or_insert_default();
        annotations.insert(INCOMPLETE.to_owned(), "true".to_owned());
    }
}

fn files(plan: &Plan, postgres: &PostgresPlan) -> BTreeMap<String, String> {
    let (mut start, mut config, mut hba) =
        (include_str!("postgres.sh").to_owned(), tuned(postgres), include_str!("pg_hba.conf").to_owned());
    if plan.tls.is_some() {
        start = start.replace(SERVE, include_str!("postgres-tls.sh"));
        config += include_str!("postgresql-tls.conf");
        hba = hba.replace("\nhost ", "\nhostssl ");
    }
    BTreeMap::from([
        (config::START.to_owned(), start),
        ("postgresql.conf".to_owned(), config + &parameters(postgres)),
        ("pg_hba.conf".to_owned(), hba),
    ])
}

/// The last line of the start script.
const SERVE: &str = "exec postgres -D \"$PGDATA\" -c \"config_file=$config/postgresql.conf\"\n";

/// Returns the configuration, tuned for the memory and the disk of the plan.
fn tuned(postgres: &PostgresPlan) -> String {
    let amounts = tuning::megabytes(postgres.memory, postgres.volume.bytes);
    let all = amounts.into_iter().chain([("max_connections", postgres.max_connections())]);
    all.fold(include_str!("postgresql.conf").to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), &value.to_string())
    })
}

/// Returns the lines of the user's parameters. Of several lines about the same parameter the last one counts.
fn parameters(postgres: &PostgresPlan) -> String {
    let quoted = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"));
    postgres.parameters.iter().map(|(name, value)| format!("{name} = {}\n", quoted(value))).collect()
}

/// Returns the variables with which our programs connect to PostgreSQL.
pub(super) fn client_env(plan: &Plan) -> Vec<EnvVar> {
    match &plan.postgres {
        Backend::External(external) => vec![pod::env_secret(env::DATABASE_URL, &external.secret, &external.key)],
        Backend::Managed(_) => {
            let name = plan.names.of(COMPONENT);
            let parameters = plan.tls.as_ref().map_or_else(String::new, |_| tls::postgres_parameters());
            variables(&plan.names.host(&name), &parameters, &name)
        }
        // Its servers speak TLS whether or not the resource does.
        Backend::Cluster(_) => {
            let host = plan.names.host(&plan.names.cluster_primary());
            variables(&host, &tls::postgres_parameters(), &plan.names.cluster_user())
        }
    }
}

fn variables(host: &str, parameters: &str, secret: &str) -> Vec<EnvVar> {
    let url = format!("postgres://{DATABASE}:$({PASSWORD_VARIABLE})@{host}:{POSTGRES_PORT}/{DATABASE}{parameters}");
    vec![pod::env_secret(PASSWORD_VARIABLE, secret, PASSWORD), pod::env(env::DATABASE_URL, url)]
}
