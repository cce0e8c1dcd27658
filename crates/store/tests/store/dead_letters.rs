//! Rows that the database refuses are dead-lettered, and no others.

use std::sync::Arc;

use sluice_store::commit::{Batch, replay};
use sluice_store::{Counts, NewDeadLetter, StoreError};
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::TestStore;

pub async fn refused_rows_are_dead_lettered_and_all_others_are_stored(test: TestStore) {
    test.refuse_poison().await;
    let mut sent = events(0..200);
    for id in [0, 77, 78, 199] {
        sent[id] = event("t", id, "\"poison\"");
    }
    sent.push(event("t", 5, "{}"));
    let batch = batch_of(sent);
    let outcome = test.commit(&batch).await;
    assert_eq!(outcome.counts, Counts { received: 197, unique: 196, duplicates: 1, conflicts: 0 });
    assert_eq!(outcome.dead_lettered, 4);
    assert_eq!(test.statistics().await.dead_lettered, 4);
    assert_eq!(test.rows().await, 196);
    let letters = test.store.dead_letters(None, 10).await.unwrap();
    let mut ids: Vec<_> = letters.iter().map(|l| l.content.event.clone().unwrap().1).collect();
    ids.sort();
    assert_eq!(ids, ["0", "199", "77", "78"]);
    assert!(letters.iter().all(|l| l.content.reason.contains("no_poison")), "{letters:?}");
    assert!(letters.iter().all(|l| ["23514", "SQLITE_1811"].contains(&&*l.content.code)), "{letters:?}");
    assert_eq!(test.commit(&again(&batch)).await.skipped, 1, "the receipt was committed with them");
    assert_eq!(test.statistics().await.dead_lettered, 4);
}

pub async fn when_one_arrival_of_a_key_is_refused_the_next_one_is_tried(test: TestStore) {
    test.refuse_poison().await;
    let payloads = ["\"poison\"", "\"poison 2\"", "\"good\"", "\"good\"", "\"other\""];
    let batch = batch_of(payloads.iter().map(|payload| event("t", 1, payload)).collect());
    let outcome = test.commit(&batch).await;
    assert_eq!(outcome.counts, Counts { received: 3, unique: 1, duplicates: 2, conflicts: 1 });
    assert_eq!(outcome.dead_lettered, 2);
    assert_eq!(test.store.event("t", "1", 2).await.unwrap()[0].payload, "\"good\"");
}

pub async fn a_batch_of_nothing_but_refused_rows_is_committed(test: TestStore) {
    test.refuse_poison().await;
    let batch = batch_of((0..5).map(|id| event("t", id, "\"poison\"")).collect());
    let outcome = test.commit(&batch).await;
    assert_eq!((outcome.counts, outcome.dead_lettered), (Counts::default(), 5));
    assert_eq!(test.commit(&again(&batch)).await.skipped, 1);
}

pub async fn a_dead_letter_is_refused_as_long_as_its_cause_lasts_and_replayed_once_after(test: TestStore) {
    test.refuse_poison().await;
    test.commit(&batch_of(vec![event("t", 1, "\"poison\"")])).await;
    let id = test.store.dead_letters(None, 1).await.unwrap()[0].id;

    let refused = replay(&*test.store, &test.options, id).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    assert_eq!(test.statistics().await.dead_lettered, 1, "it stays");

    test.accept_poison().await;
    let replayed = replay(&*test.store, &test.options, id).await.unwrap().unwrap();
    assert_eq!(replayed.counts, Counts { received: 1, unique: 1, ..Counts::default() });
    assert_eq!(test.statistics().await.dead_lettered, 0);
    assert_eq!(test.store.event("t", "1", 1).await.unwrap()[0].payload, "\"poison\"");
    assert_eq!(replay(&*test.store, &test.options, id).await.unwrap(), None, "it is gone");
    assert_eq!(test.counts().await.received, 1);
}

pub async fn a_dead_letter_replayed_twice_at_once_is_stored_once(test: TestStore) {
    test.refuse_poison().await;
    test.commit(&batch_of(vec![event("t", 1, "\"poison\"")])).await;
    test.accept_poison().await;
    let id = test.store.dead_letters(None, 1).await.unwrap()[0].id;
    let test = Arc::new(test);
    let mut replays = JoinSet::new();
    for _ in 0..4 {
        let test = Arc::clone(&test);
        replays.spawn(async move { replay(&*test.store, &test.options, id).await.unwrap() });
    }
    let replayed = replays.join_all().await;
    assert_eq!(replayed.iter().flatten().count(), 1, "{replayed:?}");
    assert_eq!(test.counts().await, Counts { received: 1, unique: 1, ..Counts::default() });
}

pub async fn a_whole_entry_dead_lettered_is_not_dead_lettered_again(test: TestStore) {
    let whole = Batch { dead_letters: vec![letter(events(0..3))], ..batch_of(events([9])) };
    assert_eq!(test.commit(&whole).await.dead_lettered, 3);
    let repeated = test.commit(&again(&whole)).await;
    assert_eq!((repeated.dead_lettered, repeated.skipped), (0, 2));
    assert_eq!(test.statistics().await.dead_lettered, 3);
    let stored = test.store.dead_letters(None, 10).await.unwrap();
    assert_eq!(stored.len(), 1);
    let expected = NewDeadLetter { receipts: Some(Vec::new()), ..whole.dead_letters[0].dead_letter.clone() };
    assert_eq!(stored[0].content, expected);

    let replayed = replay(&*test.store, &test.options, stored[0].id).await.unwrap().unwrap();
    assert_eq!(replayed.counts, Counts { received: 3, unique: 3, ..Counts::default() });
    assert_eq!(test.rows().await, 4);
}

pub async fn dead_letters_are_listed_newest_first_in_pages(test: TestStore) {
    for id in 0..5 {
        test.commit(&Batch { dead_letters: vec![letter(events([id]))], ..Batch::default() }).await;
    }
    let first = test.store.dead_letters(None, 3).await.unwrap();
    let second = test.store.dead_letters(first.last().map(|l| l.id), 3).await.unwrap();
    let ids: Vec<_> = first.iter().chain(&second).map(|l| l.id).collect();
    assert_eq!(ids.len(), 5);
    assert!(ids.windows(2).all(|pair| pair[0] > pair[1]), "{ids:?}");
}
