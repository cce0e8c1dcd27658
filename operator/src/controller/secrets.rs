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
use super::ownership::{made_by_us, owned_by_another};
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
    let mut checksums = Checksums::new();
    let mut failed = None;
    for component in plan.managed_secrets() {
        let hash = match live.secrets.get(&plan.names.of(component)) {
            Some(secret) => check_not_leftover(plan, secret).map(|()| checksum(secret, PASSWORD)),
            None => create(client, plan, component).await.map(|secret| checksum(&secret, PASSWORD)),
        };
        match hash {
            Ok(hash) => {
                checksums.insert(component, hash);
            }
            // The other Secret does not wait for this one, but all pods do.
            Err(error) if error.is_of_one_object() => {
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let redis = if let Backend::External(external) = &plan.redis { Some(external) } else { None };
    let postgres = if let Backend::External(external) = &plan.postgres { Some(external) } else { None };
    for (component, external) in [(Component::Redis, redis), (Component::Postgres, postgres)] {
        let Some(external) = external else { continue };
        if let Some(secret) = live.secrets.get(&external.secret) {
            checksums.insert(component, checksum(secret, &external.key));
        }
    }
    if let Backend::Cluster(_) = &plan.postgres
        && let Some(secret) = live.secrets.get(&plan.names.cluster_user())
    {
        checksums.insert(Component::Postgres, checksum(secret, PASSWORD));
    }
    if let Some(sentinel) = &plan.sentinel
        && let Some(secret) = live.secrets.get(&sentinel.secret_name)
        && let Some(of_redis) = checksums.get_mut(&Component::Redis)
    {
        of_redis.push_str(&checksum(secret, &sentinel.secret_key));
    }
    Ok(checksums)
}

async fn create(client: &Client, plan: &Plan, component: Component) -> Result<Secret> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &plan.names.namespace);
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
        // The Secret does not have our labels, or it would have been listed. Without them it may not be read.
        Err(kube::Error::Api(status)) if status.code == 409 && plan.secret_labels.is_some() => {
            Err(Error::NameTaken { kind: "Secret".to_owned(), name })
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = api.get(&name).await.map_err(Error::api(format!("get Secret {name}")))?;
            adopt(client, plan, component, found).await
        }
        Err(error) => Err(Error::api(format!("create Secret {name}"))(error)),
    }
}

/// Takes over an existing Secret that was made for a resource of this name. Any other one is somebody else's: its
/// value may be no password, and it must not be deleted with the resource.
async fn adopt(client: &Client, plan: &Plan, component: Component, mut secret: Secret) -> Result<Secret> {
    if !made_by_us(&secret.metadata, &plan.names.selector(component)) {
        return Err(Error::NameTaken { kind: "Secret".to_owned(), name: plan.names.of(component) });
    }
    check_not_leftover(plan, &secret)?;
    retention::adopt(client, plan, &mut secret).await?;
    Ok(secret)
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
