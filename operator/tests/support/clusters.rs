//! A resource whose PostgreSQL CloudNativePG runs, which is not there: its part is played by a test.

use serde_json::{Value, json};

use super::tls;
use super::trial::{SECRETS, Trial};

/// Path of the Cluster.
pub const CLUSTER: &str = "/apis/postgresql.cnpg.io/v1/namespaces/accounts/clusters/ledger-postgres";

/// Returns a resource with such a PostgreSQL.
pub fn with_cluster(cluster: Value) -> Trial {
    let trial = Trial::new();
    trial.change_spec(|spec| spec["postgres"] = json!({ "cloudNativePG": cluster }));
    trial
}

/// Creates the Secrets that CloudNativePG makes.
pub fn make_secrets(trial: &Trial, password: &str) {
    let secret = super::secret("accounts", "ledger-postgres-app", "password", password);
    trial.api.put(&format!("{SECRETS}/ledger-postgres-app"), serde_json::to_value(secret).unwrap());
    let secret = tls::certificate("accounts", "ledger-postgres-ca", &["ledger-postgres-rw.accounts.svc"]);
    trial.api.put(&format!("{SECRETS}/ledger-postgres-ca"), serde_json::to_value(secret).unwrap());
}

/// Sets the status of the Cluster.
pub fn report(trial: &Trial, phase: &str, ready: i32) {
    trial.api.change(CLUSTER, |cluster| {
        cluster["status"] =
            json!({"phase": phase, "instances": cluster["spec"]["instances"], "readyInstances": ready, "timelineID": 1});
    });
}

/// Does all that CloudNativePG does.
pub fn make_ready(trial: &Trial) {
    make_secrets(trial, "secret");
    report(trial, "Cluster in healthy state", 3);
}

/// Lets all rollouts but that of PostgreSQL, which has none, finish.
pub fn finish_rollouts(trial: &Trial) {
    for set in ["redis", "aggregator"] {
        trial.api.change(&format!("{}/ledger-{set}", super::trial::SETS), super::trial::finish);
    }
    trial.api.change(super::trial::DEPLOYMENT, super::trial::finish);
}

/// Returns a resource that is Ready.
pub async fn ready() -> Trial {
    let trial = with_cluster(json!({}));
    trial.reconcile().await.unwrap();
    make_ready(&trial);
    trial.reconcile().await.unwrap();
    finish_rollouts(&trial);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
    trial.api.calls();
    trial
}
