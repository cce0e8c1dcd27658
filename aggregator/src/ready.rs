//! The readiness check of a replica: its tables are prepared, and its store and its log answer.

use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use sluice_log::{LogError, LogReader};
use sluice_service::durability::Requirement;
use sluice_service::probes::Readiness;
use sluice_store::{Store, StoreError};

use crate::replica::commit_watch::CommitWatch;
use crate::replica::failover::Failover;

/// How long the store and the log may each take to answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// The cause is logged at most once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Returns the readiness check, which `GET /readyz` calls. Its error says in words what is missing. If the replica is
/// ready, it returns what is wrong nevertheless: commits that are stuck, commits that the store has lost, and settings of
/// the servers that are less than durability needs. It stays ready then, because its queries work, unless `requirement` says otherwise.
/// `prepared` is set once the store's tables are created or upgraded.
pub fn ready(
    store: Arc<dyn Store>,
    log: Arc<dyn LogReader>,
    prepared: Arc<AtomicBool>,
    commit_watch: Arc<CommitWatch>,
    failover: Option<Arc<Failover>>,
    requirement: Requirement,
) -> impl Fn() -> BoxFuture<'static, Readiness> + Clone + Send + Sync + 'static {
    let logged = Arc::new(Mutex::default());
    move || {
        let (store, log, prepared) = (store.clone(), log.clone(), prepared.clone());
        let (commit_watch, requirement, logged) = (commit_watch.clone(), requirement.clone(), logged.clone());
        let failover = failover.clone();
        async move {
            if !prepared.load(Ordering::Acquire) {
                return Err("the store's tables are not prepared yet".to_owned());
            }
            in_time("the store", &logged, store_reason, store.ping()).await?;
            in_time("the log", &logged, log_reason, log.ping()).await?;
            let mut notes = requirement.check()?;
            notes.extend(commit_watch.notes());
            notes.extend(failover.iter().flat_map(|failover| failover.notes()));
            Ok(notes)
        }
        .boxed()
    }
}

/// Returns an error that names what is missing, and the reason. The error itself may name hosts and users of the
/// database, so it is only logged, and not more often than [`LOG_INTERVAL`], because any client can ask.
async fn in_time<E: Display>(
    name: &str,
    logged: &Mutex<Option<Instant>>,
    reason: fn(&E) -> &'static str,
    answer: impl Future<Output = Result<(), E>>,
) -> Result<(), String> {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            if is_due(logged) {
                tracing::warn!(%error, "not ready: {name} cannot be used");
            }
            Err(format!("{name} cannot be used: {}; the log of this program has the details", reason(&error)))
        }
        Err(_) => Err(format!("{name} does not answer")),
    }
}

fn store_reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(_) => "it cannot be reached",
        StoreError::Conflict(_) => "another transaction is in the way",
        StoreError::TooSlow(_) => "it takes too long",
        StoreError::DiskFull(_) => "its disk is full",
        StoreError::Damaged(_) => "its files are damaged",
        StoreError::Behind(_) => "it has lost commits",
        StoreError::Refused { .. } => "it refuses a statement",
        // The message begins with the SQLSTATE.
        StoreError::Failed(message) => match message.get(..5) {
            Some("28P01" | "28000") => "password authentication failed",
            Some("3D000") => "the database does not exist",
            Some("42501") => "permission denied",
            _ => "it failed",
        },
    }
}

fn log_reason(error: &LogError) -> &'static str {
    match error {
        LogError::Full(_) => "its memory is full",
        LogError::NoSpace(_) => "its disk is full",
        LogError::Unauthenticated(_) => "password authentication failed",
        LogError::Unavailable(_) | LogError::Failed(_) => "it cannot be reached",
    }
}

fn is_due(logged: &Mutex<Option<Instant>>) -> bool {
    let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
    let due = logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL);
    if due {
        *logged = Some(Instant::now());
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_sees_neither_the_host_nor_the_user_of_the_database() {
        let error = "28P01: password authentication failed for user \"sluice\" at db.internal:5432";
        let error = StoreError::Failed(error.to_owned());
        let logged = Mutex::default();
        let seen = in_time("the store", &logged, store_reason, async { Err(error) }).await.unwrap_err();
        let reason = "password authentication failed";
        assert_eq!(seen, format!("the store cannot be used: {reason}; the log of this program has the details"));
        assert!(!is_due(&logged), "a second line would follow at once");
    }
}
