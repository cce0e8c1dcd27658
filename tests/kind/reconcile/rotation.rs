//! Passwords that the user changes in their Secrets.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::{Containers, containers, replaced};
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON, is_ready};
use crate::support::trial::{NAME, Trial};

/// Waits until all containers of these components are replaced and ready and the resource is Ready. Returns the
/// new containers.
async fn rolled(namespace: &Namespace, before: &Containers, parts: &[&str]) -> Containers {
    wait_until(&format!("{parts:?} are replaced"), SOON, || async {
        let now = containers(namespace).await;
        for part in parts {
            let pods = namespace.pods_of(NAME, part).await;
            let unready: Vec<_> = pods.iter().filter(|pod| !is_ready(pod)).map(ResourceExt::name_any).collect();
            let old: Vec<_> = now.get(*part).into_iter().flatten().filter(|id| before[*part].contains(*id)).collect();
            let complete = now.get(*part).map(|ids| ids.len()) == Some(before[*part].len());
            holds(unready.is_empty() && old.is_empty() && complete, || {
                format!("{part}: not ready {unready:?}, not replaced {old:?}, {now:#?}")
            })?;
        }
        Ok(())
    })
    .await;
    namespace.ready(NAME).await;
    containers(namespace).await
}

async fn set_password(namespace: &Namespace, secret: &str, password: &str) {
    let api: Api<Secret> = Api::namespaced(namespace.client.clone(), &namespace.name);
    let patch = Patch::Merge(json!({ "stringData": { "password": password } }));
    api.patch(secret, &PatchParams::default(), &patch).await.expect("the Secret is changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_rolls_the_pods_that_use_it_and_events_flow_on() {
    let mut trial = Trial::begin("passwords of Redis and Postgres changed", "rotation", 2).await;
    let namespace = trial.namespace().clone();
    for (secret, password, users) in [
        ("shop-redis", "another-password-of-redis", ["aggregator", "publisher", "redis"].as_slice()),
        ("shop-postgres", "another-password-of-postgres", &["aggregator", "postgres"]),
    ] {
        trial.load(Load { events: 12_000, rate: 400, ..Load::default() }).await;
        let before = containers(&namespace).await;
        let held = trial.hold().await;
        set_password(&namespace, secret, password).await;
        held.release();
        trial.fault(held.pending);
        let after = rolled(&namespace, &before, users).await;
        assert_eq!(replaced(&before, &after), users, "{secret}: {before:#?}\n{after:#?}");
        assert_eq!(namespace.secret(secret, "password").await, password, "the operator does not change it");
        trial.log_in().await;
    }
    trial.send(Load::fast(2_000)).await;
    trial.end().await;
}
