//! StatefulSets that somebody deletes with their pods.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use kube::api::Api;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::{Objects, kubectl_in, objects, text};
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON};
use crate::support::trial::{NAME, Trial};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statefulset_that_somebody_deletes_comes_back_with_its_volume_and_all_rows() {
    let mut trial = Trial::begin("StatefulSets deleted", "sets", 2).await;
    let namespace = trial.namespace().clone();
    trial.load(Load::default()).await;
    let volumes = volumes(&namespace).await;
    assert_eq!(volumes.len(), 2, "{:?}", volumes.keys());
    let sets: Api<StatefulSet> = Api::namespaced(namespace.client.clone(), &namespace.name);
    for component in ["postgres", "redis", "aggregator"] {
        let name = format!("{NAME}-{component}");
        let before = sets.get(&name).await.expect("the set");
        let pod = namespace.pod(&format!("{name}-0")).await;
        let held = trial.hold().await;
        kubectl_in(&namespace, &["delete", "statefulset", &name, "--wait=false"]).await;
        held.release();
        trial.fault(held.pending);
        wait_until(&format!("{name} exists again"), SOON, || async {
            let uid = sets.get(&name).await.map_err(|error| error.to_string())?.uid();
            holds(uid != before.uid(), || "it is still the old set".to_owned())
        })
        .await;
        namespace.restarted_pod(&pod).await;
        namespace.ready(NAME).await;
        trial.more(500).await;
    }
    let after = self::volumes(&namespace).await;
    let uids = |all: &Objects| all.values().map(|claim| text(claim, "/metadata/uid").to_owned()).collect::<Vec<_>>();
    assert_eq!(uids(&after), uids(&volumes), "the claims are the same ones");
    trial.end().await;
}

async fn volumes(namespace: &Namespace) -> Objects {
    objects(namespace, "persistentvolumeclaims", &[]).await
}
