//! A client that is frozen or cut off in the middle of COPY must not hold its receipts for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_store::commit::commit;
use sluice_store::postgres::PostgresSettings;
use sluice_store::{Store, StoreError};
use sluice_tests::proxy::Cut;
use sluice_tests::proxy::postgres::PostgresProxy;
use sluice_tests::wait_until;
use tokio::task::JoinSet;

use super::faults::named;
use crate::batches::*;
use crate::stores::{TestStore, direct, fresh_schema, opened};

const CLAIM_AFTER: Duration = Duration::from_secs(2);

/// A replica whose connections go through a proxy, in a schema of its own.
async fn behind_proxy(proxy: &PostgresProxy) -> (PostgresSettings, Arc<dyn Store>) {
    let settings = PostgresSettings { claim_after: CLAIM_AFTER, ..named(fresh_schema()) };
    let (_, server) = settings.url.split_once('@').unwrap();
    let (address, _) = server.split_once('/').unwrap();
    let proxied = PostgresSettings { url: settings.url.replace(address, proxy.address()), ..settings.clone() };
    (settings, opened(&proxied).await)
}

/// Returns whether a session of this replica waits for its client in COPY.
async fn waits_for_client(settings: &PostgresSettings) -> bool {
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1 AND state = 'active' \
                   AND wait_event = 'ClientRead' AND query LIKE 'COPY event_rows_%')";
    let waiting = sqlx::query_scalar(waiting).bind(settings.application_name());
    waiting.fetch_one(&mut direct(settings).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_stuck_in_copy_is_ended_and_its_batch_is_stored_by_another_replica() {
    let server = fresh_schema().url;
    let (_, server) = server.split_once('@').unwrap();
    let proxy = PostgresProxy::start(server.split_once('/').unwrap().0, Cut::Before).await;
    let (settings, frozen) = behind_proxy(&proxy).await;
    let (neighbour_settings, neighbour) = behind_proxy(&proxy).await;
    let other = TestStore::on_postgres(PostgresSettings { replica: "other".into(), ..settings.clone() }).await;

    proxy.stall_copies(2);
    let batch = batch_of(events(0..10));
    let mut commits = JoinSet::new();
    for store in [frozen, neighbour] {
        let (options, batch) = (other.options.clone(), again(&batch));
        commits.spawn(async move { commit(&*store, &options, &batch).await });
    }
    for stuck in commits.join_all().await {
        assert!(matches!(stuck, Err(StoreError::Unavailable(_))), "the client gives up: {stuck:?}");
    }
    assert_eq!(proxy.stalled(), 2);

    let outcome = wait_until("another replica stores the batch", Duration::from_secs(60), async || {
        commit(&*other.store, &other.options, &batch).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!((outcome.counts.unique, outcome.skipped), (10, 0));
    assert_eq!(other.store.ended_sessions(), 1);
    assert!(!waits_for_client(&settings).await);
    assert!(waits_for_client(&neighbour_settings).await, "the session of another schema is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_copy_is_left_alone_until_its_client_has_given_up() {
    let server = fresh_schema().url;
    let (_, server) = server.split_once('@').unwrap();
    let proxy = PostgresProxy::start(server.split_once('/').unwrap().0, Cut::Before).await;
    let (settings, frozen) = behind_proxy(&proxy).await;
    let other = TestStore::on_postgres(PostgresSettings { replica: "other".into(), ..settings.clone() }).await;
    proxy.stall_copies(1);
    let batch = batch_of(events(0..10));
    let began = Instant::now();
    let copying = tokio::spawn({
        let (options, batch) = (other.options.clone(), again(&batch));
        async move { commit(&*frozen, &options, &batch).await }
    });
    wait_until("the first replica is stuck in COPY", Duration::from_secs(30), async || {
        if waits_for_client(&settings).await { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    wait_until("the stuck session is ended", Duration::from_secs(60), async || {
        let repeated = commit(&*other.store, &other.options, &batch).await;
        assert!(matches!(repeated, Err(StoreError::Conflict(_)) | Ok(_)), "{repeated:?}");
        if other.store.ended_sessions() == 1 { Ok(()) } else { Err(format!("{repeated:?}")) }
    })
    .await;
    assert!(began.elapsed() >= CLAIM_AFTER, "ended after {:?}", began.elapsed());
    assert!(copying.await.unwrap().is_err());
}
