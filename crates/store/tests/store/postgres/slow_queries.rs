//! Queries that take too long, and those that must not wait for them.

use std::sync::Arc;
use std::time::Duration;

use sluice_store::postgres::PostgresSettings;
use sluice_store::{EventQuery, Maintenance, StoreError};
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::{TestStore, fresh_schema};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_lists_keep_nobody_else_from_the_database_and_say_so_when_they_are_cancelled() {
    let test = TestStore::on_postgres(PostgresSettings { api_connections: 4, ..fresh_schema() }).await;
    test.commit(&batch_of(events([1]))).await;
    let slow = "ALTER VIEW stored_events RENAME TO slow; \
                CREATE VIEW stored_events AS SELECT slow.* FROM slow, pg_sleep(60)";
    test.run(slow).await;
    let mut lists = JoinSet::new();
    for _ in 0..4 {
        let store = Arc::clone(&test.store);
        lists.spawn(async move { store.events(&EventQuery { limit: 10, ..EventQuery::default() }).await });
    }
    // Two run, and two wait for a connection until they are told that there is none.
    for _ in 0..2 {
        let refused = lists.join_next().await.unwrap().unwrap();
        assert!(matches!(&refused, Err(StoreError::Unavailable(m)) if m.contains("no connection")), "{refused:?}");
    }
    test.store.ping().await.expect("probes have connections of their own");
    assert_eq!(test.store.mark_attempt(position(1)).await.expect("so have the marks of attempts"), 1);
    assert_eq!(test.statistics().await.topics.len(), 1, "so have other queries");
    let hour = Duration::from_secs(3_600);
    let maintenance = Maintenance { receipts_ttl: hour, retention: None, max_duration: hour };
    test.store.maintain(&maintenance).await.expect("so has maintenance");

    // What statement_timeout does after its ten seconds.
    test.run(
        "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE relation = 'slow'::regclass AND pid <> pg_backend_pid()",
    )
    .await;
    let cancelled = lists.join_all().await;
    assert_eq!(cancelled.len(), 2);
    assert!(cancelled.iter().all(|list| matches!(list, Err(StoreError::TooSlow(_)))), "{cancelled:?}");
}
