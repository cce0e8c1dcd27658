//! Tells the publishers which schemas are in force: they are the notice in the log ([`sluice_log::notice`]).
//!
//! Every replica compares the notice with the store, again and again, so a notice that the log has lost, or that is older than
//! the store, is replaced. A replica reads what the notice is before it reads the store, and replaces no other one: so an
//! older state of the store never replaces a newer one.

use std::sync::Arc;
use std::time::Duration;

use sluice_log::LogReader;
use sluice_log::notice::{Notice, Tallies};
use sluice_schema::{Schemas, tally_name};
use sluice_service::backoff::Backoff;
use sluice_store::inspect::Inspect;
use sluice_store::schemas::StoredSchema;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::pause;

/// How often the notice is compared with the store.
const EVERY: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Keeps the notice as the store says, until `stop`.
pub(crate) async fn keep(store: Arc<dyn Inspect>, log: Arc<dyn LogReader>, stop: CancellationToken) {
    let mut backoff = Backoff::new(EVERY, MAX_BACKOFF);
    loop {
        let wait = match write(&*store, &*log).await {
            Ok(()) => {
                backoff.reset();
                EVERY
            }
            Err(error) => {
                metrics::schema_error();
                tracing::warn!(error, "cannot tell the publishers which schemas are in force, trying again");
                EVERY + backoff.next()
            }
        };
        if !pause(wait, &stop).await {
            return;
        }
    }
}

/// Replaces the notice if it is not as the store says, and removes tallies of schemas that are not in force any more.
///
/// # Errors
/// When the store or the log does not answer, in words.
pub(crate) async fn write(store: &dyn Inspect, log: &dyn LogReader) -> Result<(), String> {
    let before = log.notice_tag().await.map_err(|error| error.to_string())?;
    let schemas = store.schemas().await.map_err(|error| error.to_string())?;
    let notice = Notice::new(Schemas::document(schemas.iter().map(StoredSchema::in_force))?);
    if before.as_ref() != Some(&notice.tag) {
        let replaced = log.replace_notice(&notice, before.as_deref()).await.map_err(|error| error.to_string())?;
        tracing::info!(schemas = schemas.len(), replaced, "told the publishers which schemas are in force");
    }
    metrics::schemas(schemas.len());
    let tallies = log.tallies().await.map_err(|error| error.to_string())?;
    let in_force = |name: &String| schemas.iter().any(|schema| tally_name(&schema.topic, schema.version) == *name);
    let stale: Vec<String> = tallies.into_keys().filter(|name| !in_force(name)).collect();
    if stale.is_empty() {
        return Ok(());
    }
    log.forget_tallies(&stale).await.map_err(|error| error.to_string())
}

/// Returns how many events did not match a schema, as the publishers have told.
pub(crate) fn violations(schema: &StoredSchema, tallies: &Tallies) -> u64 {
    tallies.get(&tally_name(&schema.topic, schema.version)).copied().unwrap_or(0)
}
