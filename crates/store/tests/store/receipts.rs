//! The time to live of receipts.

use std::time::Duration;

use sluice_store::{Counts, Maintenance};

use crate::batches::*;
use crate::stores::{Place, TestStore};

const RECEIPTS_TTL: Duration = Duration::from_secs(3_600);

pub async fn receipts_are_dropped_only_after_their_time(test: TestStore) {
    let maintain = async || {
        let maintenance =
            Maintenance { receipts_ttl: RECEIPTS_TTL, retention: None, max_duration: Duration::from_secs(5) };
        test.store.maintain(&maintenance).await.unwrap();
    };
    let old = batch_of(events([1]));
    test.commit(&old).await;
    maintain().await;
    assert_eq!(test.commit(&again(&old)).await.skipped, 1);

    age(&test, RECEIPTS_TTL / 2).await;
    maintain().await;
    let new = batch_of(events([2]));
    test.commit(&new).await;
    assert_eq!(test.commit(&again(&old)).await.skipped, 1, "half its time has passed");
    assert_eq!(test.commit(&again(&new)).await.skipped, 1);

    age(&test, RECEIPTS_TTL * 2).await;
    maintain().await;
    age(&test, RECEIPTS_TTL * 2).await;
    maintain().await;
    let repeated = test.commit(&again(&old)).await;
    assert_eq!((repeated.skipped, repeated.counts.duplicates), (0, 1), "it is a second sending now");
}

pub async fn a_receipt_that_is_used_again_is_retained_as_long_as_a_new_one(test: TestStore) {
    let repeated = batch_of(events(0..300));
    test.commit(&repeated).await;
    for round in 1..=4 {
        age(&test, RECEIPTS_TTL * 3 / 4).await;
        test.store
            .maintain(&Maintenance {
                receipts_ttl: RECEIPTS_TTL,
                retention: None,
                max_duration: Duration::from_secs(5),
            })
            .await
            .unwrap();
        assert_eq!(test.commit(&again(&repeated)).await.skipped, 1, "repetition {round}");
    }
    assert_eq!(test.counts().await, Counts { received: 300, unique: 300, ..Counts::default() });
}

/// Lets so much time pass for the receipts.
async fn age(test: &TestStore, by: Duration) {
    match test.place {
        Place::Postgres(_) => {
            test.age("receipt_epochs", "opened_at", by).await;
            test.age("receipt_epochs", "closed_at", by).await;
        }
        Place::Sqlite(_) => test.age("receipts", "committed_at", by).await,
    }
}
