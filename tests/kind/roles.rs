//! An operator with permissions in two namespaces: they are sufficient and minimal, also with Secrets that it may read only
//! by their labels, and its `helm test` knows TLS and authentication.

use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::scaling::running;
use crate::support::cluster::{blocking, helm, kubectl, try_helm, try_kubectl};
use crate::support::install::{self, NAMESPACE, chart, images, tag};
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON};
use crate::support::tokens::accept;
use crate::support::trial::{NAME, Stage, Trial, create, small};

/// The resource of a test, with its group: another test defines a kind of the same name in another group.
const SHOP: &str = "eventaggregators.sluice.dev/shop";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_in_two_namespaces_suffice_to_look_after_them_and_allow_nothing_elsewhere() {
    let stage = Stage::alone("roles").await;
    let till = stage.beside("till").await;
    let own = stage.namespace.name.clone();
    let (release, other) = (own.clone(), till.namespace.name.clone());
    // Meanwhile the operator of the other tests must not reconcile this namespace.
    let _defaults = blocking(move || {
        let defaults = install::Restored;
        install::upgrade(&["--set", &format!("namespaces={{{NAMESPACE}}}")]);
        install_for(&release, &other);
        defaults
    })
    .await;
    guarded(&stage.namespace).await;
    autoscales(till).await;

    blocking(move || {
        let log = kubectl(&["logs", "-n", &own, "-l", "app.kubernetes.io/instance=gate", "--tail=-1"]);
        assert!(!log.contains("forbidden"), "{log}");
        let holder = kubectl(&["get", "lease", "gate-sluice", "-n", &own, "-o", "jsonpath={.spec.holderIdentity}"]);
        assert!(holder.starts_with("gate-sluice-"), "{holder}");

        // It can compare the installed definition with its own without any right to read definitions.
        let operators = "app.kubernetes.io/instance=gate,app.kubernetes.io/name=sluice-operator";
        let name = ["get", "pods", "-n", &own, "-l", operators, "-o", "jsonpath={.items[0].metadata.name}"];
        let metrics = format!("/api/v1/namespaces/{own}/pods/{}:8082/proxy/metrics", kubectl(&name));
        let metrics = kubectl(&["get", "--raw", &metrics]);
        assert!(metrics.lines().any(|line| line == "sluice_operator_missing_schema_fields 0"), "{metrics}");

        assert!(may(&own, "patch statefulsets.apps", &own));
        assert!(may(&own, "create secrets", &own));
        for beyond in
            ["delete eventaggregators.sluice.dev", "get secrets", "delete secrets", "delete persistentvolumes"]
        {
            assert!(!may(&own, beyond, &own), "{beyond}");
        }
        for beyond in [
            "create pods --subresource=exec",
            "create roles.rbac.authorization.k8s.io",
            "create serviceaccounts --subresource=token",
        ] {
            assert!(!may(&own, beyond, &own), "{beyond}");
        }
        for elsewhere in ["get secrets", "list eventaggregators.sluice.dev", "patch statefulsets.apps", "list nodes"] {
            assert!(!may(&own, elsewhere, "default"), "{elsewhere} in default");
        }

        let said = helm(&["test", "gate", "--namespace", &own, "--timeout=10m"]);
        assert_eq!(said.matches("Succeeded").count(), 2, "{said}");
        let stored = "--for=jsonpath={.status.totals.received}=2";
        kubectl(&["wait", SHOP, "-n", &own, stored, "--timeout=5m"]);

        // Nothing can be published without a publisher, and the test says so.
        kubectl(&["patch", SHOP, "-n", &own, "--type=merge", "-p", WITHOUT_PUBLISHERS]);
        let deployment = "deployment/shop-publisher";
        kubectl(&["wait", deployment, "-n", &own, "--for=jsonpath={.spec.replicas}=0", "--timeout=5m"]);
        // A pod that is stopping is still sent requests while no other one is ready.
        let publishers = "app.kubernetes.io/instance=shop,app.kubernetes.io/component=publisher";
        kubectl(&["wait", "pod", "-n", &own, "-l", publishers, "--for=delete", "--timeout=5m"]);
        let output = try_helm(&["test", "gate", "--namespace", &own, "--timeout=2m"]);
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(!output.status.success(), "the test succeeds though nothing can be published: {said}");
        assert!(said.contains("gate-sluice-test-publish"), "{said}");
        kubectl(&["delete", SHOP, "-n", &own, "--timeout=10m"]);
        helm(&["uninstall", "gate", "--namespace", &own, "--wait"]);
    })
    .await;
}

const WITHOUT_PUBLISHERS: &str = r#"{"spec":{"publisher":{"replicas":0}}}"#;

/// Creates the resource `shop` with TLS and authentication, and waits until it is Ready.
async fn guarded(namespace: &Namespace) {
    accept(namespace, "secret", json!({})).await;
    let own = namespace.name.clone();
    let token = ["create", "secret", "generic", "test-token", "--from-literal=token=secret", "-n", &own];
    let token = token.map(str::to_owned);
    blocking(move || kubectl(&token.each_ref().map(String::as_str))).await;
    let mut spec = small(1);
    spec["tls"] = json!({ "enabled": true });
    spec["auth"] = json!({ "tokens": { "name": "clients" } });
    create(namespace, NAME, spec).await;
    // The operator reads only Secrets with a label.
    wait_until("the operator says which label is missing", SOON, || async {
        let (reason, message) = namespace.condition(NAME, "Ready", "False").await;
        holds(reason == "SecretMissing" && message.contains("sluice.dev/readable=true"), || {
            format!("{reason}: {message}")
        })
    })
    .await;
    accept(namespace, "secret", json!({ "sluice.dev/readable": "true" })).await;
    namespace.ready(NAME).await;
}

/// Shows that a resource is scaled up and down in one of two namespaces.
async fn autoscales(stage: Stage) {
    let mut spec = small(1);
    spec["aggregator"]["autoscaling"] =
        json!({ "minReplicas": 1, "maxReplicas": 2, "targetBacklog": 1_000, "stabilizationSeconds": 15 });
    let mut trial = Trial::with("autoscaling by an operator of two namespaces", stage, spec).await;
    let namespace = trial.namespace().clone();
    let lock = trial.lock().await;
    trial.send(Load::fast(6_000)).await;
    running(&namespace, 2).await;
    lock.holds_up_any().await;
    trial.fault(trial.pending().await);
    lock.release().await;
    running(&namespace, 1).await;
    trial.end().await;
}

/// Installs two operators for these namespaces only, with their NetworkPolicy, which read labelled Secrets alone. Their
/// `helm test` publishes to the resource `shop` of the first one.
fn install_for(namespace: &str, other: &str) {
    let chart = chart().display().to_string();
    let set = format!(
        "replicas=2,networkPolicy.enabled=true,crds.enabled=false,namespaces={{{namespace},{other}}},\
         secretSelector=sluice.dev/readable=true,test.resource=shop,test.tls=true,test.tokenSecret.name=test-token,\
         image.tag={},images.aggregator.tag={},images.publisher.tag={}",
        tag(&images().operator),
        tag(&images().aggregator),
        tag(&images().publisher),
    );
    helm(&["install", "gate", &chart, "--namespace", namespace, "--wait", "--timeout=10m", "--set", &set]);
}

/// Returns whether the operator of the release `gate` in `own` is allowed to do `what` in `namespace`.
fn may(own: &str, what: &str, namespace: &str) -> bool {
    let account = format!("--as=system:serviceaccount:{own}:gate-sluice");
    let mut args = vec!["auth", "can-i", &account, "-n", namespace];
    args.extend(what.split(' '));
    try_kubectl(&args, "").status.success()
}
