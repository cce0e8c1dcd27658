//! Tests that only apply to SQLite: a file that others open too, or that is no database.

mod filter_groups;
mod key_partitions;

use sluice_event::{EntryId, Event, Keyer};
use sluice_store::commit::commit;
use sluice_store::sqlite::SqliteStore;
use sluice_store::{Counts, StoreError};
use sluice_tests::dirs;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use crate::batches::*;
use crate::stores::{Place, TestStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_database_is_refused() {
    let path = dirs::fresh("sqlite").join("store.db");
    std::fs::write(&path, "this is a letter to my grandmother, and long enough to be a header").unwrap();
    let refused = SqliteStore::open(&path, &Keyer::default(), 1000).await.map(|_| ());
    assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_not_there_is_unavailable() {
    let path = dirs::fresh("sqlite").join("nowhere").join("store.db");
    let refused = SqliteStore::open(&path, &Keyer::default(), 1000).await.map(|_| ());
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_somebody_has_locked_is_a_conflict() {
    let test = TestStore::sqlite().await;
    let Place::Sqlite(path) = &test.place else { unreachable!() };
    let mut somebody = SqliteConnection::connect(&path.display().to_string()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut somebody).await.unwrap();
    let batch = batch_of(events([1]));
    let committed = commit(&*test.store, &test.options, &batch).await;
    assert!(matches!(committed, Err(StoreError::Conflict(_))), "{committed:?}");
    test.store.statistics(1_000).await.expect("reading goes on");
    sqlx::raw_sql("COMMIT").execute(&mut somebody).await.unwrap();
    assert_eq!(test.commit(&batch).await.counts.unique, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_dropped_frees_the_file_for_others() {
    let test = TestStore::sqlite().await;
    let (mut transaction, _) = test.store.begin(&[]).await.unwrap();
    transaction.insert_receipts(&[EntryId::random().into()]).await.unwrap();
    drop(transaction);
    // Its own connection waits for the lock, and nothing else begins a transaction of the store.
    test.run("DELETE FROM receipts").await;
}

/// A constraint, unlike a trigger, ends the statement where it stands: the rows before stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_statement_that_was_refused_half_way_is_left() {
    let test = TestStore::sqlite().await;
    test.run("CREATE UNIQUE INDEX one_of_each ON events (payload)").await;
    let mut sent: Vec<_> = (0..200).map(|id| event("t", id, &id.to_string())).collect();
    sent[150] = event("t", 150, "100");
    let batch = batch_of(sent);
    let outcome = test.commit(&batch).await;
    assert_eq!(outcome.counts, Counts { received: 199, unique: 199, duplicates: 0, conflicts: 0 });
    assert_eq!(outcome.dead_lettered, 1);
    assert_eq!(test.rows().await, 199);
    let letters = test.store.dead_letters(None, 10).await.unwrap();
    let (_, id) = letters[0].content.event.clone().unwrap();
    assert!(["100", "150"].contains(&&*id), "{id}");
    assert_eq!(letters[0].content.code, "SQLITE_2067");
}

/// On either store: the number of an event within its batch has 20 bits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_with_more_events_than_there_are_numbers_in_a_batch_is_not_stored() {
    let test = TestStore::sqlite().await;
    let small = Event { topic: "t".into(), event_id: "1".into(), payload: "1".into(), ..event("t", 1, "1") };
    let failed = commit(&*test.store, &test.options, &batch_of(vec![small; (1 << 20) + 1])).await;
    assert!(matches!(&failed, Err(StoreError::Failed(message)) if message.contains("1048576")), "{failed:?}");
    assert_eq!(test.rows().await, 0);
}
