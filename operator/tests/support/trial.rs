//! A reconciler on a fake API server.

use std::sync::Arc;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use serde_json::{Value, json};
use sluice_operator::controller::error::Result;
use sluice_operator::controller::plan::Defaults;
use sluice_operator::controller::{Context, reconcile};
use sluice_operator::crd::EventAggregator;
use sluice_operator::program_client::Programs;

use super::fake::Api;
use super::{defaults, fixture};

/// Path of the resource `ledger`.
pub const RESOURCE: &str = "/apis/sluice.dev/v1alpha1/namespaces/accounts/eventaggregators/ledger";
/// Path of the StatefulSets.
pub const SETS: &str = "/apis/apps/v1/namespaces/accounts/statefulsets";
/// Path of the publishers.
pub const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/accounts/deployments/ledger-publisher";
/// Path of the Secrets.
pub const SECRETS: &str = "/api/v1/namespaces/accounts/secrets";
/// Path of the PersistentVolumeClaims.
pub const PVCS: &str = "/api/v1/namespaces/accounts/persistentvolumeclaims";

/// A reconciler on a fake API server that has the resource `ledger` and no other object.
pub struct Trial {
    /// The fake API server.
    pub api: Api,
    /// The context of its reconciler.
    pub context: Arc<Context>,
}

impl Trial {
    /// Creates the resource.
    pub fn new() -> Self {
        Self::with(defaults())
    }

    /// Creates the resource, for an operator with these settings.
    pub fn with(defaults: Defaults) -> Self {
        let api = Api::default();
        api.put(RESOURCE, serde_json::to_value(fixture("ledger.yaml")).unwrap());
        let context = Context::new(
            api.client(),
            Programs::new().unwrap(),
            defaults,
            Duration::from_secs(600),
            "operator-0".into(),
        );
        Self { api, context: Arc::new(context) }
    }

    /// Reconciles the stored resource.
    pub async fn reconcile(&self) -> Result<Action> {
        let resource: EventAggregator = serde_json::from_value(self.api.get(RESOURCE).unwrap()).unwrap();
        reconcile(Arc::new(DeserializeGuard(Ok(resource))), self.context.clone()).await
    }

    /// Sets the status of the StatefulSets and Deployments as if their controllers had done their work.
    pub fn finish_rollouts(&self) {
        for set in ["redis", "postgres", "aggregator"] {
            self.api.change(&format!("{SETS}/ledger-{set}"), finish);
        }
        self.api.change(DEPLOYMENT, finish);
    }

    /// Stores the PersistentVolumeClaim of a server, as the controller of its StatefulSet creates it. It is bound.
    pub fn make_pvc(&self, component: &str, size: &str) -> String {
        let name = format!("data-ledger-{component}-0");
        let path = format!("{PVCS}/{name}");
        self.api.put(
            &path,
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": "accounts", "resourceVersion": "1", "labels": {
                    "app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "ledger",
                    "app.kubernetes.io/component": component, "app.kubernetes.io/managed-by": "sluice-operator"}},
                "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}},
                "status": {"phase": "Bound", "capacity": {"storage": size}}
            }),
        );
        path
    }

    /// Changes the spec of the resource, as the API server stores it.
    pub fn change_spec(&self, change: impl FnOnce(&mut Value)) {
        self.api.change(RESOURCE, |resource| {
            change(&mut resource["spec"]);
            let generation = resource["metadata"]["generation"].as_i64().unwrap_or_default();
            resource["metadata"]["generation"] = json!(generation + 1);
        });
    }

    /// Returns a condition of the stored resource.
    pub fn condition(&self, name: &str) -> Value {
        let resource = self.api.get(RESOURCE).unwrap();
        let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == name).unwrap_or_default()
    }
}

/// Sets the status of a StatefulSet or Deployment as if its controller had done its work.
pub fn finish(set: &mut Value) {
    let replicas = set["spec"]["replicas"].clone();
    set["status"] = json!({
        "observedGeneration": set["metadata"]["generation"],
        "replicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas, "updatedReplicas": replicas,
    });
}
