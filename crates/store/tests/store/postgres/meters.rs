//! The cut at which a meter begins.

use std::sync::Arc;
use std::time::Duration;

use sluice_meter::Definition;
use sluice_store::StoreError;
use sqlx::Connection;

use crate::batches::{batch_of, events};
use crate::stores::{TestStore, direct, fresh_schema};

/// A batch that began before a meter would commit events that neither its transaction nor the backfill has counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_meter_is_not_added_while_a_batch_runs_that_does_not_know_it() {
    let settings = fresh_schema();
    let test = Arc::new(TestStore::on_postgres(settings.clone()).await);
    let mut holder = direct(&settings).await;
    let mut held = holder.begin().await.unwrap();
    sqlx::query("LOCK TABLE counters IN EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
    let batch = tokio::spawn({
        let test = Arc::clone(&test);
        async move { test.commit_until_done(&test.options, &batch_of(events(0..5))).await }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'counters'::regclass";
    while test.number(waiting).await == 0 {
        tokio::task::yield_now().await;
    }
    let definition = Definition::parse(br#"{"aggregation":"count"}"#).unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(60), test.store.put_meter("m", &definition)).await;
    assert!(matches!(refused, Ok(Err(StoreError::Conflict(_)))), "{refused:?}");
    assert!(test.store.meters().await.unwrap().is_empty());
    held.rollback().await.unwrap();
    batch.await.unwrap();
    test.store.put_meter("m", &definition).await.unwrap();
}
