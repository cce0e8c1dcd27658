//! Load from inside the cluster: the simulator runs in a Job. Its seed and its run id determine its
//! events, so the test can compute which ids must be stored.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_tests::wait_until;

use super::install;
use super::objects::Namespace;

/// Longer than any load of a test takes, with all its faults.
const FINISHED: Duration = Duration::from_secs(1_800);

/// The options of a load.
#[derive(Debug, Clone)]
pub struct Load {
    /// The number of events, duplicates included.
    pub events: u32,
    /// The fraction of the events that are duplicates, from 0 to 1.
    pub duplicate: f64,
    /// Events per second. 0 means that each request is sent as soon as a response arrives.
    pub rate: u32,
    /// The number of events in a request.
    pub batch: u32,
    /// The number of requests in flight at the same time.
    pub concurrency: u16,
    /// Whether the simulator compares its events with the stored ones at its end.
    pub verify: bool,
    /// Whether the publishers speak TLS.
    pub tls: bool,
    /// The node that its pod must run on, if any.
    pub node: Option<String>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            events: 36_000,
            duplicate: 0.3,
            rate: 900,
            batch: 30,
            concurrency: 8,
            verify: true,
            tls: false,
            node: None,
        }
    }
}

/// The report that the simulator prints at its end.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// The number of events in requests that got a response, duplicates included.
    pub sent: u64,
    /// The number of accepted events, according to the responses.
    pub accepted: u64,
    /// The number of distinct events among them.
    pub unique: u64,
    /// The number of attempts after the first of each request.
    pub retries: u64,
    /// Whether every event was stored once and counted exactly. `None` without `--verify`.
    pub verified: Option<bool>,
}

/// A load that has been started.
#[derive(Debug, Clone)]
pub struct Running {
    /// The name of its Job.
    pub job: String,
    seed: u64,
    events: u32,
    duplicate: f64,
}

impl Load {
    /// Returns a load of so many events without a rate limit. It takes some seconds.
    pub fn fast(events: u32) -> Self {
        Self { events, rate: 0, batch: 100, ..Self::default() }
    }

    /// Starts the load. Loads with different numbers have different events.
    pub async fn start(&self, namespace: &Namespace, resource: &str, number: u64) -> Running {
        let seed = 1_000 + number;
        let name = format!("load-{number}");
        let api: Api<Job> = Api::namespaced(namespace.client.clone(), &namespace.name);
        let job: Job = serde_json::from_value(self.job(namespace, resource, &name, seed)).expect("a Job");
        api.create(&PostParams::default(), &job).await.expect("the load is admitted");
        Running { job: name, seed, events: self.events, duplicate: self.duplicate }
    }

    fn job(&self, namespace: &Namespace, resource: &str, name: &str, seed: u64) -> Value {
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://{resource}-publisher.{}.svc:8080", namespace.name);
        let mut args = vec!["simulate".to_owned(), "--url".to_owned(), url];
        for (option, value) in [
            ("--events", self.events.to_string()),
            ("--duplicate", self.duplicate.to_string()),
            ("--rate", self.rate.to_string()),
            ("--batch", self.batch.to_string()),
            ("--concurrency", self.concurrency.to_string()),
            ("--seed", seed.to_string()),
            ("--run-id", name.to_owned()),
            ("--send-timeout", "15m".to_owned()),
            ("--verify-timeout", "15m".to_owned()),
        ] {
            args.extend([option.to_owned(), value]);
        }
        args.extend(self.verify.then(|| "--verify".to_owned()));
        let (mut mounts, mut volumes) = (json!([]), json!([]));
        if self.tls {
            args.extend(["--ca".to_owned(), "/ca/ca.crt".to_owned()]);
            let items = [json!({ "key": "ca.crt", "path": "ca.crt" })];
            let secret = json!({ "secretName": format!("{resource}-publisher-tls"), "items": items });
            volumes = json!([{ "name": "ca", "secret": secret }]);
            mounts = json!([{ "name": "ca", "mountPath": "/ca" }]);
        }
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": name },
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": FINISHED.as_secs(),
                "template": {
                    "metadata": { "labels": { "app.kubernetes.io/name": "load" } },
                    "spec": {
                        "restartPolicy": "Never",
                        "automountServiceAccountToken": false,
                        "nodeName": self.node,
                        "securityContext": {
                            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                            "seccompProfile": { "type": "RuntimeDefault" },
                        },
                        "volumes": volumes,
                        "containers": [{
                            "name": "load",
                            "image": install::images().publisher,
                            "imagePullPolicy": "IfNotPresent",
                            "args": args,
                            "volumeMounts": mounts,
                            "resources": { "requests": { "cpu": "50m", "memory": "64Mi" } },
                            "securityContext": {
                                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                "capabilities": { "drop": ["ALL"] },
                            },
                        }],
                    },
                },
            },
        })
    }
}

impl Running {
    /// Returns the number of distinct events of this load.
    pub fn distinct(&self) -> u64 {
        u64::from(self.events) - (f64::from(self.events) * self.duplicate).round() as u64
    }

    /// Returns the prefix of the topics of its events.
    fn topic(&self) -> String {
        format!("sim-{}-", self.job)
    }

    /// Returns the number of the event with this topic and id, or `None` if it does not belong to this load.
    pub fn number(&self, topic: &str, event_id: &str) -> Option<u64> {
        let number = event_id.strip_prefix(&format!("{:016x}-", self.seed))?.parse().ok()?;
        (topic.starts_with(&self.topic()) && number < self.distinct()).then_some(number)
    }

    /// Waits until the load has ended, and returns its report. Panics if its Job failed.
    pub async fn finish(&self, namespace: &Namespace) -> Report {
        let api: Api<Job> = Api::namespaced(namespace.client.clone(), &namespace.name);
        let succeeded = wait_until(&format!("{} has ended", self.job), FINISHED, || async {
            let status = api.get(&self.job).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
            match (status.succeeded, status.failed) {
                (Some(1..), _) => Ok(true),
                (_, Some(1..)) => Ok(false),
                _ => Err(format!("{status:?}")),
            }
        })
        .await;
        let labels = format!("batch.kubernetes.io/job-name={}", self.job);
        let pods = namespace.pods().list(&ListParams::default().labels(&labels)).await.expect("the load's pods");
        let log = namespace.log(&pods.items.first().expect("the load's pod").name_any()).await;
        assert!(succeeded, "{} failed:\n{log}", self.job);
        let report = log.lines().rev().find_map(|line| serde_json::from_str::<Report>(line).ok());
        report.unwrap_or_else(|| panic!("{} printed no report:\n{log}", self.job))
    }
}
