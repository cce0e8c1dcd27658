//! The numbers of commits, by which a server that has lost commits is noticed.

use std::sync::Arc;
use std::time::Duration;

use sluice_log::redis::{ReaderSettings, RedisReader, RedisTls, SentinelLogin};
use sluice_log::replay::{Marks, ReplayLog};
use sluice_store::commit::commit;
use sluice_store::marks::{ConfirmedCommits, MarkedStore, Number, Numbering};
use sluice_store::postgres::{PostgresSettings, PostgresStore};
use sluice_store::{CommitOptions, Store, StoreError};
use sluice_tests::redis::RedisServer;
use sqlx::Executor;

use crate::batches::*;
use crate::stores::{direct, fresh_schema, options};

/// A process whose workers number their commits.
struct Process {
    store: PostgresStore,
    confirmed: Arc<ConfirmedCommits>,
    settings: PostgresSettings,
}

impl Process {
    async fn start(settings: &PostgresSettings) -> Self {
        let store = PostgresStore::connect(settings).unwrap();
        store.migrate().await.unwrap();
        Self { store, confirmed: Arc::default(), settings: settings.clone() }
    }

    async fn commit(&self, worker: &str, id: &str) -> Result<Option<u64>, StoreError> {
        self.commit_with(worker, id, None).await
    }

    /// Commits an event, and compares the marks of the log on a new connection.
    async fn commit_with(
        &self,
        worker: &str,
        id: &str,
        log: Option<Arc<dyn ReplayLog>>,
    ) -> Result<Option<u64>, StoreError> {
        let numbering = Numbering { worker: worker.to_owned(), confirmed: self.confirmed.clone(), log };
        let options = CommitOptions {
            shard: worker.to_owned(),
            numbering: Some(numbering),
            ..options(self.settings.keyer.clone())
        };
        commit(&self.store, &options, &batch_of(events([id]))).await.map(|outcome| outcome.number)
    }

    async fn execute(&self, sql: &'static str) {
        direct(&self.settings).await.execute(sql).await.unwrap();
    }

    async fn rows(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut direct(&self.settings).await).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_worker_numbers_its_commits_and_goes_on_after_a_restart() {
    let settings = fresh_schema();
    let process = Process::start(&settings).await;
    assert_eq!(process.store.marks().await.unwrap().last_commit(), None);
    for (worker, number) in [("a/0", 1), ("a/0", 2), ("a/1", 1), ("a/0", 3)] {
        assert_eq!(process.commit(worker, "same").await.unwrap(), Some(number), "also without a new event");
    }
    let restarted = Process::start(&settings).await;
    assert_eq!(restarted.commit("a/0", "2").await.unwrap(), Some(4));
    let marks = restarted.store.marks().await.unwrap();
    assert_eq!(marks.numbers, Marks::from([("a/0".to_owned(), 4), ("a/1".to_owned(), 1)]));
    assert!(marks.last_commit().is_some());
}

/// A pooler may lead the next transaction of the same connection to another server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_refused_if_one_of_any_worker_of_its_process_is_missing() {
    let settings = fresh_schema();
    for lose in [
        "UPDATE commit_marks SET number = number - 1 WHERE worker = 'a/0'",
        "UPDATE commit_marks SET number = number - 1 WHERE worker = 'a/1'",
        "DELETE FROM commit_marks",
    ] {
        let process = Process::start(&settings).await;
        process.commit("a/0", lose).await.unwrap();
        process.commit("a/1", lose).await.unwrap();
        let before = process.rows().await;
        process.execute(lose).await;
        let refused = process.commit("a/0", "new").await;
        assert!(matches!(refused, Err(StoreError::Behind(_))), "{lose}: {refused:?}");
        assert_eq!(process.rows().await, before, "{lose}");
        // Another process knows nothing of these commits, and compares the marks of the log.
        let other = Process::start(&settings).await;
        assert!(other.commit("b/0", "other").await.is_ok());
        process.execute("DELETE FROM events WHERE event_id = 'other'").await;
    }
}

/// The process stood still while the store lost the event and got its marks again, and has noticed no lost connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_key_is_not_trusted_on_a_new_connection_after_a_loss() {
    let process = Process::start(&fresh_schema()).await;
    let redis = tokio::task::spawn_blocking(RedisServer::start).await.unwrap();
    let reader = RedisReader::new(ReaderSettings {
        url: redis.url(),
        tls: RedisTls::default(),
        sentinel: SentinelLogin::default(),
        prefix: "test".into(),
        streams: 1,
        consumer: "a".into(),
        replay_window: Duration::ZERO,
        replay_window_bytes: 0,
    });
    let log: Arc<dyn ReplayLog> = Arc::new(reader.unwrap());
    let commit = async |worker: &str| process.commit_with(worker, "1", Some(log.clone())).await;
    commit("a/0").await.unwrap();
    process.execute("DELETE FROM events").await;
    log.begin_replay(&Marks::new(), None).await.unwrap();
    let pending = log.marks().await.unwrap().replay.unwrap();
    log.end_replay(&pending).await.unwrap();

    // While this transaction has the connection that was compared, the next one opens another, before any was lost.
    let (busy, _) = process.store.begin(&[]).await.unwrap();
    let refused = commit("a/1").await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    commit("a/1").await.unwrap();
    busy.rollback().await;
    assert_eq!(process.rows().await, 1, "the duplicate of what was lost is stored");
    commit("a/0").await.unwrap();
    assert_eq!(process.rows().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_are_raised_and_never_lowered_unless_a_commit_of_the_replay_is_missing() {
    let process = Process::start(&fresh_schema()).await;
    process.commit("a/0", "1").await.unwrap();
    process.commit("replay", "2").await.unwrap();
    let before = process.store.marks().await.unwrap().last_commit_of_others("replay");
    assert!(before.is_some());
    let wanted = Marks::from([("a/0".to_owned(), 9), ("gone'\"/0".to_owned(), 4), ("replay".to_owned(), 1)]);
    let confirmed = process.confirmed.all();
    let number = Number { worker: "replay", confirmed: &confirmed };
    assert_eq!(process.store.raise_marks(number, &wanted).await.unwrap(), 2);
    process.store.raise_marks(number, &Marks::from([("a/0".to_owned(), 3)])).await.unwrap();
    let after = process.store.marks().await.unwrap();
    assert_eq!(after.last_commit_of_others("replay"), before, "which commits were not lost can still be told");
    let numbers = after.numbers;
    assert_eq!((numbers["a/0"], numbers["gone'\"/0"], numbers["replay"]), (9, 4, 3));

    process.execute("UPDATE commit_marks SET number = 0 WHERE worker = 'replay'").await;
    let refused = process.store.raise_marks(number, &Marks::from([("a/0".to_owned(), 10)])).await;
    assert!(matches!(refused, Err(StoreError::Behind(_))), "{refused:?}");
    assert_eq!(process.store.marks().await.unwrap().numbers["a/0"], 9, "all or nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_of_workers_that_are_gone_are_removed_when_they_are_old() {
    let process = Process::start(&fresh_schema()).await;
    for worker in ["a/0", "gone/0", "gone/1"] {
        process.commit(worker, worker).await.unwrap();
    }
    process
        .execute("UPDATE commit_marks SET committed_at = now() - interval '2 days' WHERE worker IN ('a/0', 'gone/0')")
        .await;
    let day = Duration::from_secs(24 * 3_600);
    assert_eq!(process.store.forget_marks(&["a/0".to_owned()], day).await.unwrap(), 1);
    let left: Vec<_> = process.store.marks().await.unwrap().numbers.into_keys().collect();
    assert_eq!(left, ["a/0", "gone/1"]);
}
