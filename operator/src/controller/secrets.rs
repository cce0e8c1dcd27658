//! Third step: passwords. A Secret is created once, never applied and never overwritten: the data of
//! the server was initialised with this password.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde_json::json;

use super::build::names::{Component, MANAGER};
use super::error::{Error, Result};
use super::fetch::Live;
use super::ownership::owned_by_another;
use super::plan::{Backend, Checksums, PASSWORD, Plan};
use super::validate::value;
use crate::crd::DeletionPolicy;

/// Characters of a generated password: 62^32 is about 190 bits.
const PASSWORD_LENGTH: usize = 32;

/// Creates the Secrets that are missing, and returns a hash of each Secret that pods use.
///
/// # Errors
/// [`Error::NameTaken`] or [`Error::Leftover`] when a Secret of that name belongs to somebody else, and
/// [`Error::Api`].
pub async fn ensure(client: &Client, plan: &Plan, live: &Live) -> Result<Checksums> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &plan.names.namespace);
    let mut checksums = Checksums::new();
    for component in plan.managed_secrets() {
        let secret = match live.secrets.get(&plan.names.of(component)) {
            Some(secret) => update_owner(&api, plan, secret).await?,
            None => create(&api, plan, component).await?,
        };
        checksums.insert(component, checksum(&secret, PASSWORD));
    }
    let redis = if let Backend::External(external) = &plan.redis { Some(external) } else { None };
    let postgres = if let Backend::External(external) = &plan.postgres { Some(external) } else { None };
    for (component, external) in [(Component::Redis, redis), (Component::Postgres, postgres)] {
        let Some(external) = external else { continue };
        if let Some(secret) = live.secrets.get(&external.secret) {
            checksums.insert(component, checksum(secret, &external.key));
        }
    }
    Ok(checksums)
}

async fn create(api: &Api<Secret>, plan: &Plan, component: Component) -> Result<Secret> {
    let name = plan.names.of(component);
    let password: String = rand::rng().sample_iter(Alphanumeric).take(PASSWORD_LENGTH).map(char::from).collect();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(plan.names.namespace.clone()),
            labels: Some(plan.names.labels(component)),
            owner_references: owner(plan).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(PASSWORD.to_owned(), ByteString(password.into_bytes()))])),
        ..Secret::default()
    };
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, &secret).await {
        Ok(created) => {
            tracing::info!(secret = name, "created a password");
            Ok(created)
        }
        // The Secret does not have our labels, or it would have been listed.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Err(Error::NameTaken { kind: "Secret".to_owned(), name })
        }
        Err(error) => Err(Error::api(format!("create Secret {name}"))(error)),
    }
}

/// Returns the owner of a Secret. It has one only when the data is deleted with the resource: then the
/// Secret is deleted too.
fn owner(plan: &Plan) -> Option<OwnerReference> {
    match plan.deletion_policy {
        DeletionPolicy::Retain => None,
        DeletionPolicy::Delete => Some(plan.owner.clone()),
    }
}

/// Adds or removes the owner reference of an existing Secret, as the deletion policy says. The content
/// is not changed.
async fn update_owner(api: &Api<Secret>, plan: &Plan, secret: &Secret) -> Result<Secret> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    if secret.metadata.deletion_timestamp.is_some() || owned_by_another(&secret.metadata, plan) {
        return Err(Error::Leftover { kind: "Secret".to_owned(), name });
    }
    let owners = secret.metadata.owner_references.clone().unwrap_or_default();
    let is_ours = |owner: &OwnerReference| owner.uid == plan.owner.uid;
    let wanted = owner(plan);
    if owners.iter().any(is_ours) == wanted.is_some() {
        return Ok(secret.clone());
    }
    let owners: Vec<_> = owners.into_iter().filter(|owner| !is_ours(owner)).chain(wanted).collect();
    let patch = json!({
        "metadata": { "ownerReferences": owners, "resourceVersion": secret.metadata.resource_version }
    });
    let patched = api
        .patch(
            &name,
            &PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() },
            &Patch::Merge(&patch),
        )
        .await;
    patched.map_err(Error::api(format!("set the owner of Secret {name}")))
}

/// Returns a hash of the value. It is an annotation of the pods, so that they are replaced when the value
/// changes.
fn checksum(secret: &Secret, key: &str) -> String {
    blake3::hash(value(secret, key).unwrap_or_default()).to_hex().chars().take(16).collect()
}
