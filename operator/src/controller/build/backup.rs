//! The pods that store backups of PostgreSQL and restore them. Each has two containers: one with the programs of
//! PostgreSQL, and one with ours, which knows folders and S3. Between them is a pipe in a volume of the pod.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{
    Container, KeyToPath, PersistentVolumeClaimVolumeSource, PodTemplateSpec, SecretVolumeSource, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names::Component;
use super::objects::Objects;
use super::{config, meta, pod, postgres, tls};
use crate::contract::{BACKUP_COMMAND, FETCH_COMMAND, POSTGRES_PORT, STORE_COMMAND, env};
use crate::controller::plan::{BackupPlan, PASSWORD, PlacePlan, Plan, PostgresPlan, RestorePlan};
use crate::crd::Resources;

const COMPONENT: Component = Component::Backup;
/// Annotation of a Job with the restore that it does.
pub const RESTORE_KEY: &str = "sluice.dev/restore";
/// The container of our program. Its termination message is the manifest of the backup.
pub const STORE_CONTAINER: &str = "store";
/// The container of the programs of PostgreSQL that restores. Its termination message says what it did.
pub const RESTORE_CONTAINER: &str = "restore";
/// The volume that the containers share.
const SHARED: &str = "/shared";
/// Where a claim with backups is mounted.
pub const FOLDER: &str = "/backups";
const CA_FOLDER: &str = "/etc/sluice-s3";
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Seconds that a backup or a restore may take: a day's work of a slow disk.
const DEADLINE: i64 = 12 * 3_600;
/// How often a pod that fails is replaced.
const RETRIES: i32 = 2;
/// Seconds after which a Job that has ended is removed, with its pods and their logs.
const TTL: i32 = 24 * 3_600;
/// Seconds after its time within which a backup may begin.
const STARTING_DEADLINE: i64 = 3_600;
/// Seconds from SIGTERM to SIGKILL.
const GRACE: i64 = 30;
/// The least size of a part of an upload.
const MIN_PART: i64 = 16 << 20;
/// Parts that a dump as large as the volume has: fewer than the 10,000 that S3 takes.
const PARTS: i64 = 9_000;

/// Adds what the pods need, and the CronJob.
pub(super) fn build(plan: &Plan, objects: &mut Objects) {
    let Some(postgres) = plan.postgres.managed() else { return };
    if postgres.backup.is_none() && plan.restore.is_none() && plan.next.is_none() {
        return;
    }
    objects.service_accounts.push(meta::service_account(plan, COMPONENT));
    objects.config_maps.push(config::config_map(plan, COMPONENT, files(plan)));
    objects.cron_jobs.extend(postgres.backup.as_ref().map(|backup| cron_job(plan, postgres, backup)));
}

fn files(plan: &Plan) -> BTreeMap<String, String> {
    let mut files = BTreeMap::from([
        ("dump.sh".to_owned(), include_str!("dump.sh").to_owned()),
        ("restore.sh".to_owned(), include_str!("restore.sh").to_owned()),
    ]);
    if plan.next.is_some() {
        files.insert("upgrade.sh".to_owned(), include_str!("upgrade.sh").to_owned());
    }
    files
}

fn cron_job(plan: &Plan, postgres: &PostgresPlan, backup: &BackupPlan) -> CronJob {
    let part_size = (postgres.volume.bytes / PARTS).max(MIN_PART);
    let mut args = vec![BACKUP_COMMAND.to_owned(), STORE_COMMAND.to_owned()];
    args.extend(options(&backup.place, "from"));
    args.extend([format!("--part-size={part_size}"), format!("--keep={}", backup.keep)]);
    args.push(format!("--report={TERMINATION_LOG}"));
    let mut store = ours(plan, STORE_CONTAINER, args, &backup.place);
    let variables = store.env.get_or_insert_default();
    variables.extend(postgres::client_env(plan));
    variables.push(pod::env(env::DATABASE_SCHEMA, &plan.schema));
    let dump = theirs(plan, "dump", "dump.sh");
    let template = template(plan, [store, dump], &backup.place);
    let job = job_spec(template, None);
    CronJob {
        metadata: meta::meta(plan, plan.names.of(COMPONENT), COMPONENT),
        spec: Some(CronJobSpec {
            schedule: backup.schedule.clone(),
            time_zone: Some("Etc/UTC".to_owned()),
            concurrency_policy: Some("Forbid".to_owned()),
            starting_deadline_seconds: Some(STARTING_DEADLINE),
            // While a backup is restored, or no server runs, none can be made.
            suspend: Some(backup.suspend || plan.restore.is_some() || plan.is_switching() || plan.hibernated),
            successful_jobs_history_limit: Some(1),
            failed_jobs_history_limit: Some(1),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(plan.names.labels(COMPONENT)), ..ObjectMeta::default() }),
                spec: Some(job),
            },
        }),
        ..CronJob::default()
    }
}

/// Returns the Job that restores a backup.
pub fn restore_job(plan: &Plan, postgres: &PostgresPlan, restore: &RestorePlan) -> Job {
    let mut args = vec![BACKUP_COMMAND.to_owned(), FETCH_COMMAND.to_owned()];
    args.extend(options(&restore.place, "to"));
    args.push(format!("--report={SHARED}/manifest"));
    args.extend(restore.backup.iter().map(|name| format!("--name={name}")));
    let fetch = ours(plan, "fetch", args, &restore.place);
    let mut theirs = theirs(plan, RESTORE_CONTAINER, "restore.sh");
    theirs.env.get_or_insert_default().extend([
        pod::env("MODE", if restore.replaces { "replace" } else { "new" }),
        pod::env("MARK", format!("sluice restored {}", restore.key)),
        pod::env("VOLUME_BYTES", postgres.volume.bytes.to_string()),
    ]);
    let mut metadata = meta::meta(plan, plan.names.restore_job(&restore.key), COMPONENT);
    metadata.annotations = Some(BTreeMap::from([(RESTORE_KEY.to_owned(), restore.key.clone())]));
    let template = template(plan, [fetch, theirs], &restore.place);
    Job { metadata, spec: Some(job_spec(template, Some(TTL))), ..Job::default() }
}

fn job_spec(template: PodTemplateSpec, ttl: Option<i32>) -> JobSpec {
    JobSpec {
        active_deadline_seconds: Some(DEADLINE),
        backoff_limit: Some(RETRIES),
        ttl_seconds_after_finished: ttl,
        template,
        ..JobSpec::default()
    }
}

/// Returns the options of our program. `pipe` is the name of the one that takes the pipe.
fn options(place: &PlacePlan, pipe: &str) -> Vec<String> {
    vec![
        format!("--url={}", place.url),
        format!("--{pipe}={SHARED}/dump"),
        format!("--exit-status={SHARED}/status"),
        format!("--ready={SHARED}/ready"),
    ]
}

/// Returns the container of our program.
fn ours(plan: &Plan, name: &str, args: Vec<String>, place: &PlacePlan) -> Container {
    let mut container = pod::container(plan, COMPONENT, &plan.images.aggregator);
    name.clone_into(&mut container.name);
    container.args = Some(args);
    container.resources = Some(pod::resources(&Resources::default(), "50m", "128Mi"));
    let mut mounts = vec![pod::mount("shared", SHARED)];
    if place.claim.is_some() {
        mounts.push(pod::mount("backups", FOLDER));
    }
    if let Some(s3) = &place.s3 {
        let mut variables = vec![
            pod::env_secret("AWS_ACCESS_KEY_ID", &s3.secret, "AWS_ACCESS_KEY_ID"),
            pod::env_secret("AWS_SECRET_ACCESS_KEY", &s3.secret, "AWS_SECRET_ACCESS_KEY"),
            pod::env("AWS_REGION", s3.region.clone()),
        ];
        if let Some(endpoint) = &s3.endpoint {
            variables.push(pod::env("AWS_ENDPOINT_URL", endpoint.clone()));
            variables.push(pod::env("AWS_ALLOW_HTTP", endpoint.starts_with("http://").to_string()));
        }
        if s3.has_ca {
            variables.push(pod::env("AWS_CA_BUNDLE", format!("{CA_FOLDER}/ca.crt")));
            mounts.push(pod::mount("ca", CA_FOLDER));
        }
        container.env = Some(variables);
    }
    container.volume_mounts = Some(mounts);
    container
}

/// Returns the container of the programs of PostgreSQL, which runs a script.
pub(super) fn theirs(plan: &Plan, name: &str, script: &str) -> Container {
    let server = plan.names.of(Component::Postgres);
    let mut container = pod::container(plan, COMPONENT, &plan.images.postgres);
    name.clone_into(&mut container.name);
    container.command = Some(vec!["sh".to_owned(), format!("{}/{script}", config::DIRECTORY)]);
    container.env = Some(vec![
        pod::env("PGHOST", plan.names.host(&server)),
        pod::env("PGPORT", POSTGRES_PORT.to_string()),
        pod::env("PGUSER", "sluice"),
        pod::env("PGDATABASE", "sluice"),
        pod::env("PGCONNECT_TIMEOUT", "30"),
        pod::env_secret("PGPASSWORD", &server, PASSWORD),
        pod::env("SCHEMA", &plan.schema),
        pod::env("SHARED", SHARED),
    ]);
    container.resources = Some(pod::resources(&Resources::default(), "50m", "64Mi"));
    container.volume_mounts =
        Some(vec![pod::mount("shared", SHARED), pod::mount("config", config::DIRECTORY), pod::mount("tmp", "/tmp")]);
    container
}

/// Turns a pod template into that of a Job.
pub(super) fn of_job(mut template: PodTemplateSpec) -> PodTemplateSpec {
    let spec = template.spec.get_or_insert_default();
    spec.restart_policy = Some("Never".to_owned());
    spec.topology_spread_constraints = None;
    template
}

fn template(plan: &Plan, containers: [Container; 2], place: &PlacePlan) -> PodTemplateSpec {
    let [mut first, mut second] = containers;
    let mut volumes = vec![config::volume(&plan.names.of(COMPONENT)), pod::scratch("shared"), pod::scratch("tmp")];
    if let Some(claim) = &place.claim {
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim.clone(), ..Default::default() };
        volumes.push(Volume { name: "backups".to_owned(), persistent_volume_claim: Some(source), ..Volume::default() });
    }
    if let Some(s3) = place.s3.as_ref().filter(|s3| s3.has_ca) {
        // Not the whole Secret: the keys are in the environment.
        let ca = KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), mode: None };
        let source = SecretVolumeSource {
            secret_name: Some(s3.secret.clone()),
            items: Some(vec![ca]),
            ..SecretVolumeSource::default()
        };
        volumes.push(Volume { name: "ca".to_owned(), secret: Some(source), ..Volume::default() });
    }
    volumes.extend(tls::of_backup(plan, &mut first, &mut second));
    // Both containers have the user of our image, so that both can use the pipe.
    let pod = pod::Pod {
        component: COMPONENT,
        user: pod::OUR_USER,
        container: first,
        volumes,
        checksums: BTreeMap::new(),
        grace: GRACE,
    };
    let mut template = pod::template(plan, pod);
    template.spec.get_or_insert_default().containers.push(second);
    of_job(template)
}
