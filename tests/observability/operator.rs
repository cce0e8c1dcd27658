//! The operator's alerts. It needs a cluster, so its metrics are those that `operator/tests/recorded_metrics.rs` has
//! recorded, of which each test changes what the fault would change.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use crate::http;
use crate::monitoring::Monitoring;
use crate::rules;

/// An operator's metrics that can be changed.
#[derive(Clone)]
pub struct Recorded(Arc<Mutex<String>>);

impl Recorded {
    /// Serves the recorded metrics. Returns the address too.
    pub async fn serve() -> (Self, String) {
        let text = fs::read_to_string(rules::file("tests/observability/operator.prom")).expect("the recorded metrics");
        let recorded = Self(Arc::new(Mutex::new(text)));
        let served = recorded.clone();
        let address = http::serve(move |_| served.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).await;
        (recorded, address)
    }

    /// Sets the value of a series, of which this is the beginning.
    pub fn set(&self, series: &str, value: f64) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = 0;
        let change = |line: &str| match line.rsplit_once(' ') {
            Some((name, _)) if name.starts_with(series) => {
                found += 1;
                format!("{name} {value}\n")
            }
            _ => format!("{line}\n"),
        };
        let changed: String = text.lines().map(change).collect();
        assert!(found > 0, "there is no series {series} in\n{text}");
        *text = changed;
    }
}

/// Serves what an aggregator of the recorded resource would show of its tables.
pub async fn tables(bytes: u64) -> String {
    http::serve(move |_| format!("sluice_store_bytes {bytes}\n")).await
}

const GIB: u64 = 1 << 30;
const CONDITION: &str = "sluice_operator_resource_condition{namespace=\"accounts\",name=\"ledger\",condition=";
/// A reason for which a reconcile of the recorded operator failed.
const FAILED: &str = "sluice_operator_reconciles_total{result=\"Forbidden\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_is_gone_fails_or_has_another_schema() {
    let (operator, address) = Recorded::serve().await;
    let watch = Monitoring::of_operator(&address, &tables(GIB).await).await;
    watch.has_not_fired("SluiceOperatorWithoutLeader");
    operator.set("sluice_operator_leader", 0.0);
    watch.fires("SluiceOperatorWithoutLeader", &[]).await;
    operator.set("sluice_operator_leader", 1.0);
    operator.set("sluice_operator_missing_schema_fields", 2.0);
    watch.fires("SluiceOperatorSchemaIsOlder", &[]).await;
    operator.set("sluice_operator_missing_schema_fields", 0.0);
    watch.has_not_fired("SluiceOperatorReconcilesFail");
    let (fails, second) = (operator.clone(), std::time::Duration::from_secs(1));
    let failing = tokio::spawn(async move {
        for failures in 2.. {
            fails.set(FAILED, f64::from(failures));
            tokio::time::sleep(second).await;
        }
    });
    watch.fires("SluiceOperatorReconcilesFail", &[("result", "Forbidden")]).await;
    failing.abort();
    for name in ["SluiceOperatorWithoutLeader", "SluiceOperatorSchemaIsOlder", "SluiceOperatorReconcilesFail"] {
        watch.ends(name, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_is_not_as_it_should_be() {
    let (operator, address) = Recorded::serve().await;
    let watch = Monitoring::of_operator(&address, &tables(17 * GIB).await).await;
    let of_ledger = [("namespace", "accounts"), ("name", "ledger")];
    watch.fires("SluiceVolumeFillsUp", &[("namespace", "accounts"), ("eventaggregator", "ledger")]).await;
    operator.set("sluice_operator_resource_volume_bytes", (40 * GIB) as f64);
    watch.ends("SluiceVolumeFillsUp", &[]).await;

    watch.has_not_fired("SluiceResourceNotReady");
    operator.set(&format!("{CONDITION}\"Ready\""), 0.0);
    operator.set(&format!("{CONDITION}\"BackedUp\""), 0.0);
    operator.set("sluice_operator_resource_certificate_expiry_timestamp_seconds", soon());
    watch.fires("SluiceResourceNotReady", &of_ledger).await;
    watch.fires("SluiceBackupFailed", &of_ledger).await;
    watch.fires("SluiceResourceCertificateEnds", &[("component", "redis")]).await;
    operator.set(&format!("{CONDITION}\"Ready\""), 1.0);
    operator.set(&format!("{CONDITION}\"BackedUp\""), 1.0);
    operator.set("sluice_operator_resource_certificate_expiry_timestamp_seconds", soon() * 2.0);
    for name in ["SluiceResourceNotReady", "SluiceBackupFailed", "SluiceResourceCertificateEnds"] {
        watch.ends(name, &[]).await;
    }
    watch.has_not_fired("SluiceOperatorReconcilesFail");
}

/// Returns the time three days from now, in seconds since 1970.
fn soon() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
    now.as_secs_f64() + 3.0 * 86_400.0
}
