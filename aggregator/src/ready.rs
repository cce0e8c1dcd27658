//! The readiness check of a replica: its tables are prepared, and its store and its log answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sluice_log::LogReader;
use sluice_store::Store;

/// How long the store and the log may each take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Returns the readiness check, which `GET /readyz` calls. Its error says in words what is missing.
/// `prepared` is set once the store's tables are created or upgraded.
pub fn ready(
    store: Arc<dyn Store>,
    log: Arc<dyn LogReader>,
    prepared: Arc<AtomicBool>,
) -> impl Fn() -> BoxFuture<'static, Result<(), String>> + Clone + Send + Sync + 'static {
    move || {
        let (store, log, prepared) = (store.clone(), log.clone(), prepared.clone());
        async move {
            if !prepared.load(Ordering::Acquire) {
                return Err("the store's tables are not prepared yet".to_owned());
            }
            in_time("the store", store.ping()).await?;
            in_time("the log", log.ping()).await
        }
        .boxed()
    }
}

async fn in_time<E: ToString>(name: &str, answer: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("{name} does not answer")),
    }
}
