//! Several hosts in the URL of the database.

use sluice_store::marks::MarkedStore;
use sluice_store::postgres::{PostgresSettings, PostgresStore};
use sluice_store::{Store, StoreError};
use sluice_tests::postgres::{DATABASE, PostgresServer};
use sluice_tests::wait::holds;
use sluice_tests::wait_until;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn at(hosts: &str, attributes: &str) -> PostgresStore {
    let url = format!("postgres://postgres@{hosts}/{DATABASE}?{attributes}");
    PostgresStore::connect(&PostgresSettings { url, ..PostgresSettings::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_hosts_the_writable_one_is_found_and_found_again_after_a_failover() {
    let mut primary = PostgresServer::start(false);
    let mut standby = primary.standby();
    let closed = "127.0.0.1:1";
    let store = at(&format!("{closed},{},{}", standby.address(), primary.address()), "connect_timeout=2");
    store.migrate().await.unwrap();
    let (transaction, _) = store.begin(&[]).await.unwrap();
    transaction.rollback().await;

    primary.kill();
    let without = store.begin(&[]).await.err();
    assert!(matches!(without, Some(StoreError::Unavailable(_))), "{without:?}");
    standby.promote();
    wait_until("the promoted standby is found", SOON, || async {
        store.begin(&[]).await.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_host_that_is_a_standby_is_refused_where_writes_are_demanded_and_never_compared() {
    let mut primary = PostgresServer::start(false);
    let store = at(&primary.address(), "");
    store.migrate().await.unwrap();
    store.marks().await.unwrap();
    let standby = primary.standby();
    let refused = at(&standby.address(), "target_session_attrs=read-write").migrate().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable(reason) if reason.contains("standby")), "{refused}");
    // It serves at the primary's address, and may lag behind.
    primary.kill();
    primary.replace_by(standby);
    wait_until("the standby is recognised", SOON, || async {
        let refused = store.marks().await.expect_err("it was compared").to_string();
        holds(refused.contains("is a standby"), || refused)
    })
    .await;
}
