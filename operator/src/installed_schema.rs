//! Compares the schema that is installed in the cluster with the one of this operator. The API server drops the fields
//! of a resource that its schema lacks, without a word to the operator, so an operator that is newer than the installed
//! CustomResourceDefinition has to find out by itself.
//!
//! The schema is read where the API server publishes it for every client that has an account. That needs no
//! permission, so it also works for an operator that may only read single namespaces.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::Request;
use kube::{Client, Resource};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::crd::{self, EventAggregator};

/// How long the request may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long after a failed comparison it is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// How many fields are named.
const MAX_NAMED: usize = 5;

/// The result of the last comparison.
#[derive(Debug, Default)]
pub struct InstalledSchema {
    missing: Mutex<BTreeSet<String>>,
}

impl InstalledSchema {
    /// Compares at each `interval` until `stop` is cancelled.
    pub async fn keep_comparing(&self, client: &Client, interval: Duration, stop: &CancellationToken) {
        loop {
            let compared = tokio::select! {
                () = stop.cancelled() => return,
                compared = self.compare(client) => compared,
            };
            let wait = match compared {
                Ok(()) => interval,
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "cannot read the installed schema, trying again");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Compares once.
    ///
    /// # Errors
    /// If the API server does not return the schema, for example because none is installed.
    pub async fn compare(&self, client: &Client) -> anyhow::Result<()> {
        let path = format!("/openapi/v3/apis/{}/{}", EventAggregator::group(&()), EventAggregator::version(&()));
        let request = client.request::<Value>(Request::get(path).body(Vec::new())?);
        let published = tokio::time::timeout(DEADLINE, request).await.context("no response in time")??;
        let schemas = published["components"]["schemas"].as_object().context("the response has no schemas")?;
        let of_kind = |schema: &&Value| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] == *EventAggregator::kind(&())))
        };
        let installed = schemas.values().find(of_kind).context("the response has no schema of the resource")?;
        let own = serde_json::to_value(crd::crd())?;
        let own = fields(&own["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
        let missing: BTreeSet<_> = own.difference(&fields(installed)).cloned().collect();
        // Below a field that is missing, all are missing.
        let first = |field: &&String| !missing.iter().any(|parent| field.starts_with(&format!("{parent}.")));
        let missing: BTreeSet<_> = missing.iter().filter(first).cloned().collect();
        metrics::gauge!(crate::metrics::MISSING_FIELDS.name).set(missing.len() as f64);
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
        if let Some(note) = self.note() {
            tracing::warn!("{note}");
        }
        Ok(())
    }

    /// Returns a line for `/readyz` if the installed schema lacks fields.
    pub fn note(&self) -> Option<String> {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let named: Vec<_> = missing.iter().take(MAX_NAMED).map(String::as_str).collect();
        let more = match missing.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!named.is_empty()).then(|| {
            format!(
                "the installed CustomResourceDefinition is of another version: the API server drops the fields {}{more} \
                 of resources; apply what `sluice-operator crd` prints",
                named.join(", ")
            )
        })
    }
}

/// Returns the paths of all fields in `spec` and `status`.
fn fields(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in ["spec", "status"] {
        collect(&schema["properties"][part], part, &mut found);
    }
    found
}

fn collect(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        collect(property, &path, found);
        found.insert(path);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner) {
            collect(inner, path, found);
        }
    }
}
