//! The Job that copies what is stored from a PostgreSQL to a newer one, and compares it.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};

use super::names::Component;
use super::{backup, config, meta, pod, tls};
use crate::controller::plan::{Plan, PostgresPlan};
use crate::controller::upgrade::plan::UpgradePlan;

const COMPONENT: Component = Component::Backup;
/// Annotation of a Job with the upgrade that it does.
pub const UPGRADE_KEY: &str = "sluice.dev/upgrade";
/// Annotation of the Job of an upgrade with the version of the aggregators' StatefulSet. If it is another one at the end,
/// an aggregator may have stored something that was not copied.
pub const AGGREGATORS: &str = "sluice.dev/aggregators";
/// The container that copies. Its termination message says what it did.
pub const UPGRADE_CONTAINER: &str = "upgrade";
/// The least number of seconds that the Job may take.
const MIN_DEADLINE: i64 = 1_800;
/// How many times as long as estimated the Job may take.
const DEADLINE_FACTOR: i64 = 4;
/// Seconds after which a Job that has ended is removed, with its pod and its log.
const TTL: i32 = 24 * 3_600;
/// Seconds from SIGTERM to SIGKILL.
const GRACE: i64 = 30;

/// Returns the Job of an upgrade. `aggregators` is the version of the aggregators' StatefulSet.
pub fn job(plan: &Plan, upgrade: &UpgradePlan, next: &PostgresPlan, aggregators: &str) -> Job {
    let key = upgrade.key();
    let mut container = backup::theirs(plan, UPGRADE_CONTAINER, "upgrade.sh");
    container.image = Some(next.image.clone());
    container.env.get_or_insert_default().extend([
        pod::env("NEXT", plan.names.host(&next.set)),
        pod::env("FROM", upgrade.from.to_string()),
        pod::env("TO", upgrade.to.to_string()),
    ]);
    let mut volumes = vec![config::volume(&plan.names.of(COMPONENT)), pod::scratch("shared"), pod::scratch("tmp")];
    volumes.extend(tls::of_upgrade(plan, &mut container));
    let template = pod::template(
        plan,
        pod::Pod {
            component: COMPONENT,
            user: pod::OUR_USER,
            container,
            volumes,
            checksums: BTreeMap::new(),
            grace: GRACE,
        },
    );
    let seconds = upgrade.estimate.map_or(0, |estimate| estimate.seconds);
    let mut metadata = meta::meta(plan, plan.names.upgrade_job(&key), COMPONENT);
    metadata.annotations =
        Some(BTreeMap::from([(UPGRADE_KEY.to_owned(), key), (AGGREGATORS.to_owned(), aggregators.to_owned())]));
    Job {
        metadata,
        spec: Some(JobSpec {
            active_deadline_seconds: Some((seconds * DEADLINE_FACTOR).max(MIN_DEADLINE)),
            // Another attempt begins with a new volume.
            backoff_limit: Some(0),
            ttl_seconds_after_finished: Some(TTL),
            template: backup::of_job(template),
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}
