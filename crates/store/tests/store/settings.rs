//! Opening a store.

use sluice_event::Keyer;
use sluice_store::StoreError;
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::TestStore;

pub async fn a_store_made_with_other_dedup_fields_is_refused(test: TestStore) {
    for other in ["event_id".parse().unwrap(), Keyer::default().truncated_for_tests(8)] {
        match test.open_again(&other).await {
            Err(StoreError::Failed(message)) => {
                assert!(message.contains("topic,event_id") && message.contains(&other.to_string()), "{message}");
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("{other} was accepted"),
        }
    }
    test.open_again(&"event_id,topic".parse().unwrap()).await.expect("the same fields in another order");
}

pub async fn what_is_stored_is_there_after_opening_it_again(test: TestStore) {
    let batch = batch_of(events(0..10));
    test.commit(&batch).await;
    let store = test.open_again(&Keyer::default()).await.unwrap();
    let test = TestStore { store, ..test };
    assert_eq!(test.commit(&again(&batch)).await.skipped, 1);
    assert_eq!(test.commit(&batch_of(events(0..10))).await.counts.duplicates, 10);
    assert_eq!(test.counts().await.received, 20);
}

pub async fn migrating_again_and_by_several_at_once_changes_nothing(test: TestStore) {
    test.commit(&batch_of(events(0..10))).await;
    let fresh = std::sync::Arc::new(test.another(Keyer::default()).await);
    let mut openings = JoinSet::new();
    for _ in 0..4 {
        let fresh = std::sync::Arc::clone(&fresh);
        openings.spawn(async move { fresh.open_again(&Keyer::default()).await.map(|_| ()) });
    }
    for opened in openings.join_all().await {
        opened.expect("opened");
    }
    test.open_again(&Keyer::default()).await.expect("opened again");
    assert_eq!(test.rows().await, 10);
}
