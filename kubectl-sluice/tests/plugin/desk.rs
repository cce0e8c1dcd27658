//! The command line, on a fake API server.

use clap::Parser;
use kubectl_sluice::cli::{Cli, run};
use kubectl_sluice::{Context, end};
use serde_json::{Value, json};

use crate::fake::Api;

const NAMESPACE: &str = "accounts";

/// A person with a shell, whose cluster has the resource `ledger` in the namespace `accounts`.
pub struct Desk {
    pub api: Api,
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: u8,
    pub out: String,
    pub err: String,
}

impl Desk {
    /// Creates the resource.
    pub fn new() -> Self {
        let desk = Self { api: Api::default() };
        desk.api.put(&path("ledger"), ledger());
        desk
    }

    /// Runs a command line to its end.
    pub async fn run(&self, line: &str) -> Done {
        let words = ["kubectl-sluice", "--namespace", NAMESPACE].into_iter().chain(line.split(' '));
        let cli = Cli::try_parse_from(words).unwrap();
        let context = Context::with(cli.global, self.api.client());
        let mut out = Vec::new();
        let (code, err) = end(run(cli.command, &context, &mut out).await);
        Done { code, out: String::from_utf8(out).unwrap(), err: err.unwrap_or_default() }
    }

    /// Changes the resource.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        self.api.change(&path("ledger"), change);
    }

    /// Stores a pod of a component with this status.
    pub fn put_pod(&self, name: &str, component: &str, status: Value) {
        self.api.put(
            &format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}"),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {
                    "app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "ledger",
                    "app.kubernetes.io/component": component, "app.kubernetes.io/managed-by": "sluice-operator"}},
                "status": status
            }),
        );
    }

    /// Stores an event about a resource.
    pub fn put_event(&self, about: &str, reason: &str, message: &str, last: &str) {
        self.api.put(
            &format!("/api/v1/namespaces/{NAMESPACE}/events/{about}.{reason}"),
            json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("{about}.{reason}")},
                "involvedObject": {"kind": "EventAggregator", "name": about, "namespace": NAMESPACE},
                "type": "Warning", "reason": reason, "message": message, "lastTimestamp": last, "count": 3
            }),
        );
    }
}

/// Returns the path of a resource.
pub fn path(name: &str) -> String {
    format!("/apis/sluice.dev/v1alpha1/namespaces/{NAMESPACE}/eventaggregators/{name}")
}

/// Returns the status of a pod whose container is ready.
pub fn ready() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

/// Returns a condition.
pub fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 4
    })
}

fn ledger() -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "EventAggregator",
        "metadata": {"name": "ledger", "namespace": NAMESPACE, "generation": 4,
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"aggregator": {"autoscaling": {"minReplicas": 1, "maxReplicas": 5}}},
        "status": {
            "observedGeneration": 4, "replicas": 2, "desiredReplicas": 2, "backlog": 7, "deletionPolicy": "Retain",
            "endpoint": "http://ledger-publisher.accounts.svc:8080", "volumes": {"redis": "8Gi", "postgres": null},
            "totals": {"received": 10, "uniqueProcessed": 8, "duplicateDropped": 2, "conflicts": 1, "deadLettered": 3},
            "conditions": [
                condition("Ready", "True", "AllReady", "everything is ready"),
                condition("Progressing", "False", "Complete", "nothing is left to do"),
                condition("AggregatorReady", "True", "Ready", "2 pods are ready")
            ]
        }
    })
}
