//! When a replica is ready: its store and its log both answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sluice_log::LogReader;

use sluice_store::Store;

/// The readiness check; an error says what is missing.
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

async fn in_time<E: ToString>(what: &str, answer: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match tokio::time::timeout(Duration::from_secs(2), answer).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err(format!("{what} does not answer")),
    }
}
