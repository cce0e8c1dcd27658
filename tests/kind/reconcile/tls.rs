//! TLS on all connections, with certificates that are renewed under load.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::{containers, kubectl_in};
use crate::support::cluster::{blocking, try_kubectl};
use crate::support::load::Load;
use crate::support::objects::Namespace;
use crate::support::trial::{NAME, Stage, create, small};

const COMPONENTS: [&str; 4] = ["aggregator", "postgres", "publisher", "redis"];
/// Nodes update mounted Secrets within about two minutes.
const RENEWED: Duration = Duration::from_secs(300);

/// Returns the log lines that say that a renewed certificate is used, by component.
async fn renewals(namespace: &Namespace) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for component in COMPONENTS {
        let selector = format!("app.kubernetes.io/instance={NAME},app.kubernetes.io/component={component}");
        let log = kubectl_in(namespace, &["logs", "-l", &selector, "--tail=-1"]).await;
        let says = |line: &&str| line.contains("new connections use the");
        counts.insert(component.to_owned(), log.lines().filter(says).count());
    }
    counts
}

/// Runs a line of shell in the pod of a server, and returns whether it succeeded.
async fn succeeds(namespace: &Namespace, pod: &str, line: &str) -> bool {
    let args = ["-n", &namespace.name, "exec", pod, "--", "sh", "-c", line].map(str::to_owned);
    blocking(move || try_kubectl(&args.each_ref().map(String::as_str), "").status.success()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_speak_tls_alone_and_renewed_certificates_replace_no_pod() {
    let stage = Stage::shared("tls").await;
    let namespace = &stage.namespace;
    let mut spec = small(1);
    spec["tls"] = serde_json::json!({ "enabled": true });
    create(namespace, NAME, spec).await;
    namespace.ready(NAME).await;

    let (redis, postgres) = (format!("{NAME}-redis-0"), format!("{NAME}-postgres-0"));
    assert!(succeeds(namespace, &redis, "test \"$(redis-cli --tls --insecure ping)\" = PONG").await);
    assert!(!succeeds(namespace, &redis, "test \"$(redis-cli ping)\" = PONG").await, "Redis has a plain port");
    let psql = |mode: &str| {
        format!("psql \"postgres://sluice:$POSTGRES_PASSWORD@127.0.0.1/sluice?sslmode={mode}\" -c 'select 1'")
    };
    assert!(succeeds(namespace, &postgres, &psql("require")).await);
    assert!(!succeeds(namespace, &postgres, &psql("disable")).await, "PostgreSQL accepts a plain connection");

    let load = Load { events: 60_000, rate: 300, tls: true, ..Load::default() };
    let running = load.start(namespace, NAME, 1).await;
    let (before, renewed) = (containers(namespace).await, renewals(namespace).await);
    let secrets: Vec<_> = COMPONENTS.iter().map(|component| format!("{NAME}-{component}-tls")).collect();
    let delete: Vec<_> = ["delete", "secret"].into_iter().chain(secrets.iter().map(String::as_str)).collect();
    kubectl_in(namespace, &delete).await;
    wait_until("all components use their renewed certificates", RENEWED, || async {
        let now = renewals(namespace).await;
        holds(now.iter().all(|(component, count)| *count > renewed[component]), || format!("{now:?}"))
    })
    .await;
    let report = running.finish(namespace).await;
    assert!(report.verified == Some(true) && report.sent == report.accepted, "{report:?}");
    assert_eq!(containers(namespace).await, before, "a renewed certificate replaces no pod");
    namespace.ready(NAME).await;
}
