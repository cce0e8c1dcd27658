//! What the store finds out about what the PostgreSQL server promises.

use sluice_service::durability::Requirement;
use sluice_store::Store;
use sluice_store::postgres::PostgresStore;
use sluice_tests::postgres::PostgresServer;

use crate::stores::on_server;

/// Connects to a server with these settings; returns the notes of a program that requires nothing, and the refusal of
/// one that requires durability.
async fn found(settings: &str) -> (Vec<String>, Option<String>) {
    let server = PostgresServer::start_with(settings);
    let store = PostgresStore::connect(&on_server(&server)).unwrap();
    let require = |require| Requirement { servers: vec![store.durability()], require, ..Requirement::default() };
    assert!(require(true).check().is_err(), "nothing is known before the first connection");
    store.migrate().await.unwrap();
    store.ping().await.unwrap();
    (require(false).check().unwrap(), require(true).check().err())
}

#[tokio::test]
async fn a_durable_server_is_enough() {
    assert_eq!(found("fsync = on\n").await, (Vec::new(), None));
}

#[tokio::test]
async fn a_server_with_asynchronous_commits_is_enough_because_each_session_turns_them_off() {
    assert_eq!(found("fsync = on\nsynchronous_commit = off\n").await, (Vec::new(), None));
}

#[tokio::test]
async fn a_server_that_does_not_write_to_its_disk_is_named_and_refused() {
    let (notes, refusal) = found("fsync = off\nfull_page_writes = off\n").await;
    let expected = ["fsync", "full_page_writes"].map(|name| format!("postgres.{name} is off, but durability needs on"));
    assert_eq!(notes, expected);
    assert_eq!(refusal.as_ref(), Some(&expected[0]));
}

#[tokio::test]
async fn a_setting_that_is_changed_while_the_server_runs_is_noticed() {
    use sqlx::{Connection, Executor};
    let server = PostgresServer::start_with("fsync = on\n");
    let store = PostgresStore::connect(&on_server(&server)).unwrap();
    store.migrate().await.unwrap();
    store.ping().await.unwrap();
    let requirement = Requirement { servers: vec![store.durability()], ..Requirement::default() };
    assert_eq!(requirement.check(), Ok(Vec::new()));
    let mut other = sqlx::PgConnection::connect(&server.maintenance_url()).await.unwrap();
    other.execute("ALTER SYSTEM SET full_page_writes = off").await.unwrap();
    other.execute("SELECT pg_reload_conf()").await.unwrap();
    sluice_tests::wait_until("the setting is noticed", std::time::Duration::from_secs(60), || async {
        store.ping().await.map_err(|error| error.to_string())?;
        let notes = requirement.check()?;
        if notes.len() == 1 { Ok(()) } else { Err(format!("{notes:?}")) }
    })
    .await;
}
