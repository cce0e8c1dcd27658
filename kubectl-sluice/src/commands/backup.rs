//! `backup` and `backups`: Jobs of the CronJob `NAME-backup`, which the operator creates for a resource with backups.

use std::cmp::Reverse;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use sluice_service::units::duration_within;

use super::{Out, write, write_json};
use crate::context::Context;
use crate::global::{Form, Output};
use crate::outcome::{Late, Outcome};
use crate::resource::Resource;
use crate::table::{age, row, table};

/// How often a Job is read while it is waited for.
const LOOK: Duration = Duration::from_secs(1);
/// The number of Jobs that are read with a request.
const PAGE: u32 = 500;
/// The maximum length of a Job's name: its pods' names are longer.
const MAX_NAME: usize = 52;

/// Makes a backup now: a Job from the CronJob NAME-backup
///
/// With --wait it exits with 3 if the backup failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource
    pub name: String,
    /// Wait until the backup has ended
    #[arg(long)]
    pub wait: bool,
    /// Longest wait
    #[arg(long, default_value = "1h", value_parser = duration_within("1s", "168h"), value_name = "TIME")]
    pub timeout: Duration,
}

/// Lists the backups that are made or were made lately, newest first
///
/// These are the Jobs of the CronJob NAME-backup that Kubernetes still keeps.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The resource
    pub name: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub output: Output,
}

/// Creates the Job, and waits for its end.
///
/// # Errors
/// If there is no CronJob, or the Job does not end in time.
pub async fn run(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let cron_job = cron_job(context, &args.name).await?;
    let api: Api<Job> = context.api()?;
    let job = job(&cron_job)?;
    let job = context.answer("cannot create a Job", api.create(&PostParams::default(), &job)).await?.name_any();
    write(out, &format!("job {}/{job} created\n", context.namespace))?;
    if !args.wait {
        return Ok(Outcome::Done);
    }
    let ended = async {
        loop {
            let found = context.answer(&format!("job {job}"), api.get(&job)).await?;
            if let Some(end) = end(&found) {
                return anyhow::Ok(end);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let Ok(ended) = tokio::time::timeout(args.timeout, ended).await else {
        return Err(Late(format!("job {job} did not end within {:?}; it goes on", args.timeout)).into());
    };
    match ended? {
        End::Complete => {
            write(out, &format!("job {}/{job} is complete\n", context.namespace))?;
            Ok(Outcome::Done)
        }
        End::Failed(reason) => {
            let logs = format!("kubectl logs -n {} job/{job}", context.namespace);
            write(out, &format!("job {}/{job} failed: {reason} ({logs})\n", context.namespace))?;
            Ok(Outcome::Negative)
        }
    }
}

/// Lists the Jobs.
///
/// # Errors
/// If they cannot be read.
pub async fn list(context: &Context, args: &ListArgs, out: Out<'_>) -> anyhow::Result<Outcome> {
    let owner = cron_job(context, &args.name).await?.uid();
    let api: Api<Job> = context.api()?;
    let (mut jobs, mut list) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let page = context.answer("cannot list Jobs", api.list(&list)).await?;
        let is_ours = |job: &Job| job.owner_references().iter().any(|of| Some(&of.uid) == owner.as_ref());
        jobs.extend(page.items.into_iter().filter(is_ours));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => list = list.continue_token(&token),
            None => break,
        }
    }
    jobs.sort_by_key(|job| Reverse(created(job)));
    let now = Timestamp::now();
    let mut rows = vec![row(["JOB", "STATE", "BEGAN", "TOOK", "MESSAGE"])];
    let mut objects = Vec::new();
    for job in &jobs {
        let (state, message) = match end(job) {
            None => ("Running", String::new()),
            Some(End::Complete) => ("Complete", String::new()),
            Some(End::Failed(reason)) => ("Failed", reason),
        };
        let status = job.status.as_ref();
        let ended = status.and_then(|status| Some(status.completion_time.as_ref()?.0));
        let began = status.and_then(|status| Some(status.start_time.as_ref()?.0));
        let took = began.zip(ended).map(|(began, ended)| age(began, ended)).unwrap_or_default();
        let began_ago = began.map(|began| age(began, now)).unwrap_or_default();
        objects
            .push(json!({"job": job.name_any(), "state": state, "began": began, "ended": ended, "message": message}));
        rows.push(row([&job.name_any(), state, &began_ago, &took, &message]));
    }
    match args.output.form {
        Form::Json => write_json(out, &objects)?,
        Form::Text if jobs.is_empty() => write(out, "there are no backups yet\n")?,
        Form::Text => write(out, &table(&rows))?,
    }
    Ok(Outcome::Done)
}

async fn cron_job(context: &Context, name: &str) -> anyhow::Result<CronJob> {
    let cron_job = format!("{name}-backup");
    let api: Api<CronJob> = context.api()?;
    if let Some(found) = context.answer(&format!("cannot read CronJob {cron_job}"), api.get_opt(&cron_job)).await? {
        return Ok(found);
    }
    Resource::read(context, name).await?;
    bail!("it has no backups: CronJob {cron_job} does not exist")
}

/// Returns the Job as `kubectl create job --from` makes it: owned by the CronJob, so that it is removed with it.
fn job(cron_job: &CronJob) -> anyhow::Result<Job> {
    let name = cron_job.name_any();
    let template =
        cron_job.spec.as_ref().map(|spec| spec.job_template.clone()).context("the CronJob has no template")?;
    let metadata = template.metadata.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert("cronjob.kubernetes.io/instantiate".to_owned(), "manual".to_owned());
    let suffix: String = uuid::Uuid::new_v4().simple().to_string().chars().take(6).collect();
    let name_of_job: String = name.chars().take(MAX_NAME).collect();
    let owner = OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "CronJob".to_owned(),
        name,
        uid: cron_job.uid().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(format!("{name_of_job}-{suffix}")),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        ..Job::default()
    })
}

/// How a Job ended.
enum End {
    Complete,
    Failed(String),
}

fn end(job: &Job) -> Option<End> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
        match condition.type_.as_str() {
            "Complete" => Some(End::Complete),
            "Failed" => {
                let text = condition.message.clone().or_else(|| condition.reason.clone()).unwrap_or_default();
                Some(End::Failed(text))
            }
            _ => None,
        }
    })
}

fn created(job: &Job) -> Option<Timestamp> {
    job.metadata.creation_timestamp.as_ref().map(|time| time.0)
}
