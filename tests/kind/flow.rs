//! The steps of a user, from the installation to the first events.

use std::time::Instant;

use kube::ResourceExt;
use serde_json::Value;
use sluice_tests::Client;

use crate::support::cluster::{helm, kubectl, kubectl_with};
use crate::support::forward::Forward;
use crate::support::install::{self, NAMESPACE, RELEASE};
use crate::support::load::Load;
use crate::support::trial::{NAME, OPERATOR, Stage, Trial};

/// The resource that the chart's notes tell a user to apply.
const RESOURCE: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: EventAggregator
metadata:
  name: shop
spec:
  aggregator:
    replicas: 3
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_installs_applies_waits_publishes_and_asks() {
    let stage = Stage::shared("flow").await;
    let own = stage.namespace.name.clone();
    let applied = Instant::now();
    let waiting = own.clone();
    let apply = move || {
        kubectl_with(&["apply", "-n", &waiting, "-f", "-"], RESOURCE);
        kubectl(&[
            "wait",
            "--for=condition=Ready",
            "--timeout=10m",
            "-n",
            &waiting,
            "eventaggregators.sluice.dev/shop",
        ]);
    };
    tokio::task::spawn_blocking(apply).await.expect("Ready");
    let ready = applied.elapsed();

    let mut trial = Trial::on("the flow of a user", stage).await;
    trial.note(format!("from apply to Ready {:.1} s", ready.as_secs_f64()));
    // The condition Ready must be exact: at this moment every pod is ready.
    let namespace = trial.namespace().clone();
    let pods = namespace.pods().list(&Default::default()).await.expect("pods").items;
    assert_eq!(pods.len(), 3 + 2 + 1 + 1, "aggregators, publishers, Redis, Postgres");
    for pod in &pods {
        assert!(crate::support::objects::is_ready(pod), "{} is not ready: {:?}", pod.name_any(), pod.status);
    }

    trial.send(Load { events: 20_000, rate: 0, ..Load::default() }).await;
    let tally = trial.end().await;

    let publisher = namespace.pods_of(NAME, "publisher").await.remove(0).name_any();
    let forward = Forward::start(&namespace.client, &own, &publisher, 8080).await;
    let stats: Value = Client::new(&format!("http://{}", forward.address())).get_json("/stats").await;
    let told = ["received", "unique_processed", "duplicate_dropped"].map(|name| stats[name].as_i64());
    assert_eq!(told, [tally.end.received, tally.end.unique, tally.end.duplicates].map(Some), "/stats: {stats}");

    // An upgrade starts the operator again, so it must not run while another test has scaled the operator to zero.
    let operator = OPERATOR.write().await;
    let test = move || {
        install::upgrade(&["--set", &format!("test.resource={NAME},test.namespace={own}")]);
        helm(&["test", RELEASE, "--namespace", NAMESPACE, "--timeout=10m"])
    };
    let said = tokio::task::spawn_blocking(test).await.expect("helm test");
    drop(operator);
    assert_eq!(said.matches("Succeeded").count(), 2, "{said}");
}
