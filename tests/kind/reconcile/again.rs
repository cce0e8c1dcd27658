//! A resource that is deleted and created again in one breath: objects of the first one still exist, and go, while the
//! operator makes those of the second.

use kube::ResourceExt;
use kube::api::DeleteParams;

use super::{MADE, OF_RESOURCE, objects};
use crate::support::load::Load;
use crate::support::trial::{NAME, Trial, create, small};
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::objects::SOON;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_is_deleted_and_made_again_at_once_has_its_rows_and_only_objects_of_its_own() {
    let mut trial = Trial::begin("deleted and made again at once", "again", 2).await;
    let namespace = trial.namespace().clone();
    trial.send(Load::fast(5_000)).await;
    let first = trial.end().await;
    let passwords = async || {
        (namespace.secret("shop-redis", "password").await, namespace.secret("shop-postgres", "password").await)
    };
    let before = passwords().await;

    let old = namespace.resources().get(NAME).await.expect("the resource").uid();
    // With one replica less, so that the test notices a set of the first resource that stays.
    namespace.resources().delete(NAME, &DeleteParams::default()).await.expect("it is deleted");
    create(&namespace, NAME, small(1)).await;
    let new = namespace.resources().get(NAME).await.expect("the resource").uid();
    assert_ne!(new, old);
    namespace.ready(NAME).await;

    wait_until("all objects belong to the second resource", SOON, || async {
        let made = objects(&namespace, MADE, &["-l", OF_RESOURCE]).await;
        let foreign: Vec<_> = made
            .iter()
            .filter(|(_, object)| object["metadata"]["ownerReferences"][0]["uid"].as_str() != new.as_deref())
            .map(|(name, _)| name)
            .collect();
        holds(foreign.is_empty() && made.len() > 10, || format!("{foreign:?} of {} do not", made.len()))
    })
    .await;
    namespace.ready(NAME).await;
    assert_eq!(namespace.pods_of(NAME, "aggregator").await.len(), 1);
    assert_eq!(passwords().await, before, "the passwords are those of the volumes");
    assert_eq!(trial.snapshot().await, first.end, "rows and counters are those of the first resource");
    trial.log_in().await;
    trial.fault_elsewhere();
    trial.send(Load::fast(2_000)).await;
    trial.end().await;
}
