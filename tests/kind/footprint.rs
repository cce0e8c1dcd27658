//! Measures the cost of an idle operator: its resident memory, and its requests to the API server per
//! minute. `make measure-operator` runs it. It prints a table and writes it to `footprint.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use serde_json::{Value, json};
use sluice_tests::wait::holds;
use sluice_tests::{Client, metrics, wait_until};

use crate::support::cluster::{blocking, client, kubectl_with, work};
use crate::support::forward::Forward;
use crate::support::install::{self, NAMESPACE};
use crate::support::objects::{Namespace, SOON};
use crate::support::operators;
use crate::support::trial::{NAME, Stage, create, small};

const METRICS_PORT: u16 = 8082;
const REQUESTS: &str = "sluice_operator_api_requests_total";
const RECONCILES: &str = "sluice_operator_reconciles_total";
const UNCHANGED: &str = "sluice_operator_reconciles_total{result=\"Unchanged\"}";
/// The verbs of RBAC, in the order of the table's columns.
const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

const MANY: usize = 50;
const MINUTE: Duration = Duration::from_secs(60);
/// Longer than the operator needs to process all consequences of one change.
const QUIET: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: make measure-operator"]
async fn the_operators_footprint_is_measured() {
    let stage = Stage::alone("footprint").await;
    let namespace = &stage.namespace;
    create(namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;
    quiet().await;
    let one = Row::measured("1", "10 min").await;

    share_servers(namespace).await;
    let others: Vec<_> = (1..MANY).map(|number| format!("idle-{number}")).collect();
    for name in &others {
        create(namespace, name, without_pods()).await;
    }
    for name in &others {
        namespace.ready(name).await;
    }
    quiet().await;
    let many = Row::measured(&MANY.to_string(), "10 min").await;

    let _defaults = DefaultSettings;
    blocking(|| install::upgrade(&["--set", "extraArgs={--resync=1m}"])).await;
    // A new operator reconciles all resources at once, and again about a minute later. From the middle of
    // this second round, every minute has the same number of reconciliations.
    let middle = 1.5 * MANY as f64;
    wait_until("the new operator's second round is half done", SOON, || async {
        let sample = Sample::take().await?;
        holds(sample.reconciles >= middle, || format!("{} reconciliations", sample.reconciles))
    })
    .await;
    let resyncing = Row::measured(&MANY.to_string(), "1 min").await;

    let table = table(&[one, many, resyncing]);
    println!("{table}");
    std::fs::write(work().join("footprint.md"), table).expect("footprint.md is written");
}

/// Returns the spec of a resource that uses the servers of the first one and has no pods. The test
/// measures the operator, and fifty complete systems do not fit on a small machine.
pub fn without_pods() -> Value {
    let external = |key: &str| json!({ "external": { "secretRef": { "name": "servers", "key": key } } });
    json!({
        "aggregator": { "replicas": 0 }, "publisher": { "replicas": 0 },
        "redis": external("redis"), "postgres": external("postgres"),
    })
}

/// Creates a Secret with the URLs of the first resource's servers.
async fn share_servers(namespace: &Namespace) {
    let host = |part: &str| format!("{NAME}-{part}.{}.svc", namespace.name);
    let redis = namespace.secret(&format!("{NAME}-redis"), "password").await;
    let postgres = namespace.secret(&format!("{NAME}-postgres"), "password").await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "servers" },
        "stringData": {
            "redis": format!("redis://:{redis}@{}:6379", host("redis")),
            "postgres": format!("postgres://sluice:{postgres}@{}:5432/sluice", host("postgres")),
        },
    });
    let own = namespace.name.clone();
    blocking(move || kubectl_with(&["apply", "-n", &own, "-f", "-"], &secret.to_string())).await;
}

/// The values of the operator's metrics at one moment.
#[derive(Debug)]
pub struct Sample {
    pub at: Instant,
    /// Bytes.
    pub resident: f64,
    /// The number of reconciliations since the operator started.
    pub reconciles: f64,
    /// The number of those that were more than a look at a resource to which nothing had happened.
    pub active: f64,
    /// The number of requests to the API server since the operator started, by verb.
    pub requests: BTreeMap<&'static str, f64>,
}

impl Sample {
    /// Reads the metrics through the API server, because the pod's address is reachable only inside the cluster.
    pub async fn take() -> Result<Self, String> {
        let pod = operators::only().await?;
        let forward = Forward::start(&client().await, NAMESPACE, &pod.name_any(), METRICS_PORT).await;
        let asked = Client::new(&format!("http://{}", forward.address()));
        let answer = asked.try_send(asked.request("GET", "/metrics")).await.map_err(|error| error.to_string())?;
        let text = answer.text;
        let of_verb = |verb: &'static str| (verb, metrics::sum(&text, &format!("{REQUESTS}{{verb=\"{verb}\"}}")));
        let (reconciles, unchanged) = (metrics::sum(&text, RECONCILES), metrics::sum(&text, UNCHANGED));
        Ok(Self {
            at: Instant::now(),
            resident: metrics::sum(&text, "process_resident_memory_bytes"),
            reconciles,
            active: reconciles - unchanged,
            requests: VERBS.into_iter().map(of_verb).collect(),
        })
    }

    /// Reads the metrics as soon as the operator answers.
    pub async fn taken() -> Self {
        wait_until("the operator's metrics", SOON, Self::take).await
    }
}

/// Waits until the operator has reconciled nothing for [`QUIET`], apart from looks at resources to which nothing has
/// happened: with many resources, these never end.
pub async fn quiet() {
    let mut last = Sample::taken().await;
    let until = Instant::now() + SOON;
    while last.at.elapsed() < QUIET {
        assert!(Instant::now() < until, "the operator does not become idle: {last:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let next = Sample::taken().await;
        if next.active > last.active {
            last = next;
        }
    }
}

/// A row of the table.
struct Row {
    resources: String,
    resync: &'static str,
    /// Bytes.
    resident: f64,
    /// Reconciliations per minute.
    reconciles: f64,
    /// Requests per minute, in the order of [`VERBS`].
    requests: Vec<f64>,
}

impl Row {
    /// Measures during the next minute.
    async fn measured(resources: &str, resync: &'static str) -> Self {
        let before = Sample::taken().await;
        tokio::time::sleep(MINUTE).await;
        let after = Sample::taken().await;
        let minutes = (after.at - before.at).as_secs_f64() / MINUTE.as_secs_f64();
        let requests = VERBS.iter().map(|verb| (after.requests[verb] - before.requests[verb]) / minutes);
        Self {
            resources: resources.to_owned(),
            resync,
            resident: after.resident,
            reconciles: (after.reconciles - before.reconciles) / minutes,
            requests: requests.collect(),
        }
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "| resources | reconciled every | resident memory | reconciliations | {} | all requests |\n|---|---|{}\n",
        VERBS.join(" | "),
        "---:|".repeat(VERBS.len() + 3),
    );
    for Row { resources, resync, resident, reconciles, requests } in rows {
        let by_verb: Vec<_> = requests.iter().map(|count| format!("{count:.0}")).collect();
        let (mib, all) = (resident / f64::from(1 << 20), requests.iter().sum::<f64>());
        let _ = writeln!(
            table,
            "| {resources} | {resync} | {mib:.1} MiB | {reconciles:.0} | {} | {all:.0} |",
            by_verb.join(" | ")
        );
    }
    table
}

/// Restores the default settings of the operator that all tests share when it is dropped.
pub struct DefaultSettings;

impl Drop for DefaultSettings {
    fn drop(&mut self) {
        install::upgrade(&[]);
    }
}
