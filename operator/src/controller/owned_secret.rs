//! Secrets that the operator writes again when their content changes, unlike passwords: they are owned by the resource, and
//! deleted with it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::build::names::MANAGER;
use super::error::{Error, Result};
use super::fetch::Live;
use super::ownership::{made_by_us, owned_by_another};
use super::plan::Plan;

/// What a Secret should be.
pub(super) struct Wanted<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
    /// Its type, which cannot be changed.
    pub(super) type_: &'a str,
    /// Its values, by key.
    pub(super) values: BTreeMap<String, ByteString>,
}

/// Writes a Secret if it differs.
///
/// # Errors
/// [`Error::NameTaken`] or [`Error::Leftover`] for one that is not ours, and [`Error::Api`].
pub(super) async fn write(client: &Client, plan: &Plan, live: &Live, wanted: Wanted<'_>) -> Result<()> {
    let Wanted { name, labels, type_, values } = wanted;
    let api: Api<Secret> = Api::namespaced(client.clone(), &plan.names.namespace);
    let found = match live.secrets.get(name) {
        Some(secret) => secret.clone(),
        None => {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    namespace: Some(plan.names.namespace.clone()),
                    labels: Some(labels.clone()),
                    owner_references: Some(vec![plan.owner.clone()]),
                    ..ObjectMeta::default()
                },
                type_: Some(type_.to_owned()),
                data: Some(values.clone()),
                ..Secret::default()
            };
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            match api.create(&params, &secret).await {
                Ok(_) => {
                    tracing::info!(secret = name, "created a Secret");
                    return Ok(());
                }
                // Somebody removed its labels, or it is somebody else's.
                Err(kube::Error::Api(status)) if status.code == 409 && plan.secret_labels.is_some() => {
                    return Err(Error::NameTaken { kind: "Secret".to_owned(), name: name.to_owned() });
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    api.get(name).await.map_err(Error::api(format!("get Secret {name}")))?
                }
                Err(error) => return Err(Error::api(format!("create Secret {name}"))(error)),
            }
        }
    };
    if !made_by_us(&found.metadata, &labels) {
        return Err(Error::NameTaken { kind: "Secret".to_owned(), name: name.to_owned() });
    }
    if found.metadata.deletion_timestamp.is_some() || owned_by_another(&found.metadata, plan) {
        return Err(Error::Leftover { kind: "Secret".to_owned(), name: name.to_owned() });
    }
    let has_labels =
        labels.iter().all(|(key, value)| found.metadata.labels.as_ref().and_then(|all| all.get(key)) == Some(value));
    let is_same = values.iter().all(|(key, value)| found.data.as_ref().and_then(|data| data.get(key)) == Some(value));
    if is_same && has_labels {
        return Ok(());
    }
    // The version protects what another operator has written at the same time.
    let version = &found.metadata.resource_version;
    let metadata = json!({"labels": labels, "ownerReferences": [plan.owner], "resourceVersion": version});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"metadata": metadata, "data": values}));
    api.patch(name, &params, &patch).await.map_err(Error::api(format!("change Secret {name}")))?;
    tracing::info!(secret = name, "changed a Secret");
    Ok(())
}
