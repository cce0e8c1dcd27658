//! What the resource asks for: backups, and a restore that has not been done yet.

use k8s_openapi::api::core::v1::Secret;

use super::cron::Schedule;
use super::done;
use crate::controller::build::backup::FOLDER;
use crate::controller::build::names::Names;
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::plan::{BackupPlan, PlacePlan, RestorePlan, Restores, S3Plan};
use crate::crd::{BackupPlace, EventAggregator, EventAggregatorSpec, RestoreState, RestoreStatus};

/// The keys that a Secret with the credentials of S3 must have.
const CREDENTIALS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
const CA: &str = "ca.crt";

/// Returns the backups that the resource asks for.
///
/// # Errors
/// [`Error::Invalid`] for a schedule that is not valid or never comes, and [`Error::SecretMissing`].
pub fn backup(spec: &EventAggregatorSpec, live: &Live, names: &Names) -> Result<Option<BackupPlan>> {
    let Some(backup) = &spec.postgres.managed.backup else { return Ok(None) };
    let field = "spec.postgres.managed.backup";
    check_schedule(&format!("{field}.schedule"), &backup.schedule)?;
    Ok(Some(BackupPlan {
        schedule: backup.schedule.clone(),
        keep: backup.keep,
        suspend: backup.suspend,
        place: place(&format!("{field}.to"), &backup.to, live, &names.namespace, &names.name)?,
    }))
}

/// Checks the schedule in a field.
///
/// # Errors
/// [`Error::Invalid`] if it is not valid or never comes.
pub fn check_schedule(field: &str, text: &str) -> Result<()> {
    let schedule = Schedule::parse(text).map_err(|message| Error::invalid(field, message))?;
    match schedule.after(jiff::Timestamp::UNIX_EPOCH) {
        Some(_) => Ok(()),
        None => Err(Error::invalid(field, format!("{text:?} never comes"))),
    }
}

/// Returns the restore that is to be done, if one is, and what identifies all that the resource asks for.
///
/// # Errors
/// [`Error::Invalid`] if there is nothing to restore from, and [`Error::SecretMissing`].
pub fn restore(resource: &EventAggregator, live: &Live, names: &Names) -> Result<(Option<RestorePlan>, Restores)> {
    let mut asked = Restores::default();
    let begins = begins_with(resource, live, names, &mut asked)?;
    let replaces = replaces(resource, live, names, &mut asked)?;
    Ok((begins.or(replaces), asked))
}

/// Returns the backup with which a new resource begins, unless it has.
fn begins_with(
    resource: &EventAggregator,
    live: &Live,
    names: &Names,
    asked: &mut Restores,
) -> Result<Option<RestorePlan>> {
    let Some(from) = &resource.spec.restore_from else { return Ok(None) };
    let field = "spec.restoreFrom";
    if resource.spec.postgres.external.is_some() {
        return Err(Error::invalid(field, "needs a managed PostgreSQL"));
    }
    let namespace = from.namespace.as_ref().unwrap_or(&names.namespace);
    let place = place(&format!("{field}.from"), &from.from, live, namespace, &from.name)?;
    let key = format!("{} {}", place.url, from.backup.as_deref().unwrap_or("newest"));
    asked.restore_from = Some(key.clone());
    let remembered = resource.status.as_ref().and_then(|status| status.restored_from.as_ref());
    let failed = match done::restore(&key, remembered, live) {
        Some(RestoreStatus { state: RestoreState::Succeeded, .. }) => return Ok(None),
        // Aggregators would fill the empty volume.
        Some(RestoreStatus { state: RestoreState::Failed, message, .. }) => Some(message.unwrap_or_default()),
        _ => None,
    };
    Ok(Some(RestorePlan { key, backup: from.backup.clone(), place, replaces: false, failed, estimate: None }))
}

/// Returns the backup that replaces what is stored, unless that was tried.
fn replaces(
    resource: &EventAggregator,
    live: &Live,
    names: &Names,
    asked: &mut Restores,
) -> Result<Option<RestorePlan>> {
    let spec = &resource.spec;
    let restore = spec.postgres.managed.restore.as_ref().filter(|_| spec.postgres.external.is_none());
    let Some(restore) = restore else { return Ok(None) };
    let key = format!("{} {}", restore.backup, restore.id).trim_end().to_owned();
    asked.restore = Some(key.clone());
    let remembered = resource.status.as_ref().and_then(|status| status.restore.as_ref());
    if done::restore(&key, remembered, live).is_some_and(|done| done.state != RestoreState::Running) {
        return Ok(None);
    }
    let Some(backup) = backup(spec, live, names)? else {
        let message = "needs spec.postgres.managed.backup, which says where the backups are";
        return Err(Error::invalid("spec.postgres.managed.restore", message));
    };
    let name = Some(restore.backup.clone());
    Ok(Some(RestorePlan { key, backup: name, place: backup.place, replaces: true, failed: None, estimate: None }))
}

fn place(field: &str, place: &BackupPlace, live: &Live, namespace: &str, name: &str) -> Result<PlacePlan> {
    let folder = format!("{namespace}/{name}");
    match (&place.claim, &place.s3) {
        (Some(claim), None) => {
            Ok(PlacePlan { url: format!("file://{FOLDER}/{folder}"), claim: Some(claim.clone()), s3: None })
        }
        (None, Some(s3)) => {
            let secret = live.secrets.get(&s3.credentials_secret);
            let has = |secret: &Secret, key: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(key));
            for key in CREDENTIALS {
                if !secret.is_some_and(|secret| has(secret, key)) {
                    let (name, key) = (s3.credentials_secret.clone(), key.to_owned());
                    return Err(Error::SecretMissing { field: format!("{field}.s3.credentialsSecret"), name, key });
                }
            }
            let endpoint = s3.endpoint.as_deref().map(|endpoint| endpoint.trim_end_matches('/').to_owned());
            let port = endpoint.as_deref().map_or(Some(443), port_of);
            let port = port.ok_or_else(|| Error::invalid(format!("{field}.s3.endpoint"), "has no valid port"))?;
            let prefix = if s3.prefix.is_empty() { String::new() } else { format!("{}/", s3.prefix) };
            let plan = S3Plan {
                endpoint,
                port,
                region: s3.region.clone(),
                secret: s3.credentials_secret.clone(),
                has_ca: secret.is_some_and(|secret| has(secret, CA)),
            };
            Ok(PlacePlan { url: format!("s3://{}/{prefix}{folder}", s3.bucket), claim: None, s3: Some(plan) })
        }
        _ => Err(Error::invalid(field, "must have either claim or s3")),
    }
}

/// Returns the port in the URL of a server.
fn port_of(endpoint: &str) -> Option<i32> {
    let (scheme, host) = endpoint.split_once("://")?;
    let default = if scheme == "http" { 80 } else { 443 };
    let after_address = host.rsplit(']').next().unwrap_or(host);
    match after_address.rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().ok().filter(|port| *port > 0).map(i32::from),
        None => Some(default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_bucket_is_that_of_its_server() {
        for (endpoint, port) in [
            ("https://s3.example", Some(443)),
            ("http://minio.tools.svc:9000", Some(9000)),
            ("http://[::1]:9000", Some(9000)),
            ("http://[::1]", Some(80)),
            ("https://s3.example:x", None),
        ] {
            assert_eq!(port_of(endpoint), port, "{endpoint}");
        }
    }
}
