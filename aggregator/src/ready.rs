//! The readiness check of a replica: its tables are prepared, and its store and its log answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sluice_log::LogReader;
use sluice_store::Store;

use crate::replica::commit_watch::CommitWatch;

/// How long the store and the log may each take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Returns the readiness check, which `GET /readyz` calls. Its error says in words what is missing. If the replica is
/// ready, it returns what is wrong nevertheless: commits that are stuck. It stays ready then, because its queries work.
/// `prepared` is set once the store's tables are created or upgraded.
pub fn ready(
    store: Arc<dyn Store>,
    log: Arc<dyn LogReader>,
    prepared: Arc<AtomicBool>,
    commit_watch: Arc<CommitWatch>,
) -> impl Fn() -> BoxFuture<'static, Result<Vec<String>, String>> + Clone + Send + Sync + 'static {
    move || {
        let (store, log, prepared) = (store.clone(), log.clone(), prepared.clone());
        let commit_watch = commit_watch.clone();
        async move {
            if !prepared.load(Ordering::Acquire) {
                return Err("the store's tables are not prepared yet".to_owned());
            }
            in_time("the store", store.ping()).await?;
            in_time("the log", log.ping()).await?;
            Ok(commit_watch.notes())
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
