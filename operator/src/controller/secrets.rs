//! Fifth step: passwords. A Secret is created once, never applied and never overwritten: the data of
//! the server was initialised with this password.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use rand::RngExt;
use rand::distr::Alphanumeric;

use super::build::names::{Component, MANAGER};
use super::error::{Error, Result};
use super::fetch::Live;
use super::ownership::owned_by_another;
use super::plan::{Backend, Checksums, PASSWORD, Plan};
use super::retention;
use super::validate::value;

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
        let hash = match live.secrets.get(&plan.names.of(component)) {
            Some(secret) => {
                check_not_leftover(plan, secret)?;
                checksum(secret, PASSWORD)
            }
            None => checksum(&create(&api, plan, component).await?, PASSWORD),
        };
        checksums.insert(component, hash);
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
            owner_references: retention::owner(plan.deletion_policy, &plan.owner).map(|owner| vec![owner]),
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

/// Refuses a Secret that is being deleted or belongs to an earlier resource.
fn check_not_leftover(plan: &Plan, secret: &Secret) -> Result<()> {
    if secret.metadata.deletion_timestamp.is_some() || owned_by_another(&secret.metadata, plan) {
        let name = secret.metadata.name.clone().unwrap_or_default();
        return Err(Error::Leftover { kind: "Secret".to_owned(), name });
    }
    Ok(())
}

/// Returns a hash of the value. It is an annotation of the pods, so that they are replaced when the value
/// changes.
fn checksum(secret: &Secret, key: &str) -> String {
    blake3::hash(value(secret, key).unwrap_or_default()).to_hex().chars().take(16).collect()
}
