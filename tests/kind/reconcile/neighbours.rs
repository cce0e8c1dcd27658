//! Two resources with the same name in different namespaces.

use kube::api::DeleteParams;
use serde_json::Value;

use super::{MADE, containers, gone};
use crate::support::load::Load;
use crate::support::trial::{NAME, Stage, Trial, create, small};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_of_one_name_in_two_namespaces_do_not_know_of_each_other() {
    let stage = Stage::shared("neighbour-one").await;
    let other = stage.beside("neighbour-two").await;
    create(&stage.namespace, NAME, small(1)).await;
    create(&other.namespace, NAME, small(1)).await;
    tokio::join!(stage.namespace.ready(NAME), other.namespace.ready(NAME));
    let mut stays = Trial::on("two of a name: the one that stays", stage).await;
    let mut goes = Trial::on("two of a name: the one that goes", other).await;
    let (one, two) = (stays.namespace().clone(), goes.namespace().clone());
    for secret in ["shop-redis", "shop-postgres"] {
        let passwords = (one.secret(secret, "password").await, two.secret(secret, "password").await);
        assert_ne!(passwords.0, passwords.1, "{secret}");
    }

    // Both receive the same events. If one received events of the other, it would count duplicates.
    stays.send(Load { events: 10_000, rate: 400, ..Load::default() }).await;
    goes.send(Load { events: 3_000, rate: 400, ..Load::default() }).await;
    goes.end().await;
    let before = containers(&one).await;
    two.resources().delete(NAME, &DeleteParams::default()).await.expect("deleted");
    gone(&two, &format!("pods,{MADE}")).await;
    stays.fault_elsewhere();
    stays.send(Load::fast(2_000)).await;
    stays.end().await;
    assert_eq!(containers(&one).await, before, "no container of the other resource was replaced");
    assert_eq!(one.resource(NAME).await["metadata"]["deletionTimestamp"], Value::Null);
}
