//! NetworkPolicies that are enforced. The network of a cluster that was built without a registry does not enforce them,
//! so this test starts a firewall on its nodes, which enforces those of the resources of this test and no others.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::support::cluster::{blocking, kubectl, root, try_kubectl};
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON, is_ready};
use crate::support::trial::{Stage, create, small};
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

/// The name of the resources. The firewall enforces the policies with this instance label.
const WALLED: &str = "walled";
const PUBLISHER: (&str, u16) = ("publisher", 8080);
const AGGREGATOR: (&str, u16) = ("aggregator", 8081);
const REDIS: (&str, u16) = ("redis", 6379);
const POSTGRES: (&str, u16) = ("postgres", 5432);
/// The port of metrics and probes, where it has no TLS of clients.
const METRICS: u16 = 9090;
/// How long an attempt to connect may take. A connection that is refused by a policy ends at once or never.
const ATTEMPT: &str = "3";

/// The firewall on the nodes, which is removed when this is dropped.
struct Firewall;

impl Firewall {
    fn manifest() -> String {
        root().join("tests/kind/cluster/policies.yaml").display().to_string()
    }

    /// Starts the firewall, unless the cluster has a network that enforces NetworkPolicies by itself.
    async fn start() -> Option<Self> {
        blocking(|| {
            let enforces = !try_kubectl(&["-n", "kube-system", "get", "daemonset", "pod-routes"], "").status.success();
            if enforces {
                return None;
            }
            let firewall = Self;
            kubectl(&["apply", "-f", &Self::manifest()]);
            kubectl(&["-n", "kube-system", "rollout", "status", "daemonset/policies", "--timeout=3m"]);
            Some(firewall)
        })
        .await
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        // The pods remove their rules before they end.
        try_kubectl(&["delete", "-f", &Self::manifest(), "--cascade=foreground", "--timeout=3m"], "");
    }
}

/// Creates a pod with these labels that does nothing, from which the test connects.
async fn make_pod(namespace: &Namespace, name: &str, labels: Value) {
    let pod = json!({
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 999, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "shell", "image": "postgres:17", "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "infinity"],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    namespace.pods().create(&PostParams::default(), &pod).await.expect("the pod is admitted");
    wait_until(&format!("{name} runs"), SOON, || async {
        let pod = namespace.pods().get(name).await.map_err(|error| error.to_string())?;
        holds(is_ready(&pod), || format!("{:?}", pod.status))
    })
    .await;
}

/// Returns whether a pod can connect to the pod that the operator made for a component.
async fn connects(from: (&Namespace, &str), to: &Namespace, component: &str, port: u16) -> bool {
    let pods = to.pods_of(WALLED, component).await;
    let made = pods.iter().find(|pod| pod.name_any().starts_with(WALLED));
    let status = made.and_then(|pod| pod.status.as_ref());
    let address = status.and_then(|status| status.pod_ip.clone()).expect("a pod with an address");
    let line = format!("timeout {ATTEMPT} bash -c '</dev/tcp/{address}/{port}'");
    let args = ["-n", &from.0.name, "exec", from.1, "--", "bash", "-c", &line].map(str::to_owned);
    blocking(move || try_kubectl(&args.each_ref().map(String::as_str), "").status.success()).await
}

/// Asserts that a resource works, and that only who may connect to its pods can.
async fn is_walled(namespace: &Namespace, elsewhere: &Namespace, tls: bool) {
    let mut spec = small(1);
    spec["tls"] = json!({ "enabled": tls });
    create(namespace, WALLED, spec).await;
    namespace.ready(WALLED).await;
    let load = Load { tls, ..Load::fast(3_000) };
    let report = load.start(namespace, WALLED, 1).await.finish(namespace).await;
    assert_eq!((report.verified, report.sent), (Some(true), report.accepted), "{report:?}");

    make_pod(namespace, "intruder", json!({ "app.kubernetes.io/name": "intruder" })).await;
    // This pod shows that what the intruder cannot reach is there: it differs by its labels alone.
    let labels = json!({ "app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": WALLED,
        "app.kubernetes.io/component": "aggregator" });
    make_pod(namespace, "insider", labels).await;
    for (component, port) in [REDIS, POSTGRES] {
        // The firewall learns of a new pod a moment after it runs.
        wait_until(&format!("a pod with the labels of an aggregator reaches {component}"), SOON, || async {
            holds(connects((namespace, "insider"), namespace, component, port).await, || "it does not".to_owned())
        })
        .await;
    }
    for (place, pod) in [(namespace, "intruder"), (elsewhere, "stranger")] {
        let reaches = async |component, port| connects((place, pod), namespace, component, port).await;
        assert!(reaches(PUBLISHER.0, PUBLISHER.1).await, "{pod} may publish");
        for (component, port) in [REDIS, POSTGRES, AGGREGATOR, (PUBLISHER.0, METRICS), (AGGREGATOR.0, METRICS)] {
            assert!(!reaches(component, port).await, "{pod} reaches port {port} of {component}, with TLS: {tls}");
        }
    }
    namespace.ready(WALLED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_policies_are_enforced_a_resource_works_and_others_reach_only_its_publishers() {
    let stage = Stage::shared("walled").await;
    let (tls, elsewhere) = (stage.beside("walled-tls").await, stage.beside("stranger").await);
    let _firewall = Firewall::start().await;
    make_pod(&elsewhere.namespace, "stranger", json!({})).await;
    tokio::join!(
        is_walled(&stage.namespace, &elsewhere.namespace, false),
        is_walled(&tls.namespace, &elsewhere.namespace, true),
    );
}
