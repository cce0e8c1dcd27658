//! `kubectl sluice` on a resource in a cluster: through the API server to pods with NetworkPolicies, in a namespace whose
//! pods must be `restricted`.

use std::process::{Command, Stdio};

use kube::ResourceExt;
use serde_json::{Value, json};
use sluice_tests::wait::holds;
use sluice_tests::{Client, program, wait_until};

use crate::support::cluster;
use crate::support::forward::Forward;
use crate::support::objects::{Namespace, SOON};
use crate::support::trial::{NAME, Stage, create, small};

/// Runs a command of the plugin to its end. Returns its exit code, standard output and standard error.
async fn plugin(namespace: &Namespace, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(program::find("kubectl-sluice"));
    command.env("KUBECONFIG", cluster::kubeconfig()).args(["-n", &namespace.name]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let output = cluster::blocking(move || cluster::output_of(&mut command, &input)).await;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Returns the standard output of a command that must succeed.
async fn done(namespace: &Namespace, args: &[&str], input: &str) -> String {
    let (code, out, err) = plugin(namespace, args, input).await;
    assert_eq!(code, Some(0), "{args:?}\n{out}\n{err}");
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plugin_shows_and_operates_a_resource_from_outside_of_the_cluster() {
    let stage = Stage::shared("plugin").await;
    let namespace = &stage.namespace;
    create(namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;

    let lines: String = (0..100)
        .map(|n| format!("{}\n", json!({"topic": "orders", "event_id": n.to_string(), "payload": n})))
        .collect();
    let publish = ["publish", NAME, "-f", "-", "--batch", "30", "--idempotency-key", "once"];
    for _ in 0..2 {
        assert_eq!(done(namespace, &publish, &lines).await, "accepted 100 events in 4 requests\n");
    }
    wait_until("the events are stored", SOON, || async {
        let stats: Value = serde_json::from_str(&done(namespace, &["stats", NAME, "-o", "json"], "").await).unwrap();
        holds(stats["unique_processed"] == 100 && stats["received"] == 100, || stats.to_string())
    })
    .await;
    let status = done(namespace, &["status", NAME], "").await;
    for expected in
        [": Ready\n", "received 100 = stored 100 + duplicates 0", "volumes          postgres 1Gi, redis 1Gi"]
    {
        assert!(status.contains(expected), "{expected}: {status}");
    }
    assert_eq!(done(namespace, &["dead-letters", NAME], "").await, "there are no dead letters\n");
    let audit: Value = serde_json::from_str(&done(namespace, &["audit", NAME, "-o", "json"], "").await).unwrap();
    assert_eq!((&audit["verdict"], &audit["total"]["rows"]), (&json!("exact"), &json!(100)), "{audit}");
    let report = done(namespace, &["audit", NAME, "--record"], "").await;
    let publisher = namespace.pods_of(NAME, "publisher").await.remove(0).name_any();
    let forward = Forward::start(&namespace.client, &namespace.name, &publisher, 8080).await;
    let client = Client::new(&format!("http://{}", forward.address()));
    wait_until("the audit that was noted is shown", SOON, || async {
        let noted = client.get_json("/overview").await["audit"].clone();
        holds(noted["verdict"] == "exact", || format!("{noted} after {report}"))
    })
    .await;
    let logs = done(namespace, &["logs", NAME], "").await;
    for component in ["publisher", "aggregator", "redis", "postgres"] {
        assert!(logs.contains(&format!("[{NAME}-{component}-")), "{component}: {logs}");
    }
    let logs = done(namespace, &["logs", NAME, "-c", "redis", "--tail", "1"], "").await;
    assert_eq!((logs.lines().count(), logs.starts_with(&format!("[{NAME}-redis-0] "))), (1, true), "{logs}");

    done(namespace, &["pause", NAME, "--wait"], "").await;
    let (code, status, _) = plugin(namespace, &["status", NAME], "").await;
    assert!(code == Some(4) && status.contains("It is paused."), "{code:?} {status}");
    done(namespace, &["resume", NAME, "--wait"], "").await;
    let (code, _, errors) = plugin(namespace, &["backup", NAME], "").await;
    assert!(code == Some(1) && errors.contains("it has no backups"), "{code:?} {errors}");
}
