//! Whole entries that become dead letters, and their requests that are sent again.

use sluice_event::entry::Request;
use sluice_event::{EntryId, ReceiptId};
use sluice_store::Counts;
use sluice_store::commit::{Batch, replay};
use sluice_store::put_aside::PutAside;

use crate::batches::*;
use crate::ledger::ledger;
use crate::stores::TestStore;

fn put_aside(letter: PutAside) -> Batch<'static> {
    Batch { dead_letters: vec![letter], ..Batch::default() }
}

async fn replay_newest(test: &TestStore) -> Counts {
    let id = test.store.dead_letters(None, 1).await.unwrap()[0].id;
    replay(&*test.store, &test.options, id).await.unwrap().unwrap().counts
}

/// A request with a key, and its repetition.
fn sent_twice() -> [Request<'static>; 2] {
    let receipt = ReceiptId::from(EntryId::random());
    [(); 2].map(|()| keyed(receipt, events(0..3)))
}

pub async fn a_request_that_was_put_aside_is_skipped_when_it_is_sent_again(test: TestStore) {
    let [first, again] = sent_twice();
    let outcome = test.commit(&put_aside(letter_of(&[first, request(events(10..12))]))).await;
    assert_eq!(outcome.dead_lettered, 5);

    let outcome = test.commit(&batch(vec![entry(vec![again])])).await;
    assert_eq!((outcome.counts, outcome.skipped), (Counts::default(), 1), "it would be counted twice");
    assert_eq!(test.statistics().await.dead_lettered, 5);
    assert_eq!(ledger(&test, "skipped", "t").await, 3);

    let counts = replay_newest(&test).await;
    assert_eq!(counts, Counts { received: 5, unique: 5, ..Counts::default() }, "its own receipts do not stop a replay");
    assert_eq!(ledger(&test, "skipped", "t").await, 3);
}

pub async fn a_request_that_was_stored_before_is_not_put_aside_a_second_time(test: TestStore) {
    let [first, again] = sent_twice();
    test.commit(&batch(vec![entry(vec![first])])).await;
    let outcome = test.commit(&put_aside(letter_of(&[again, request(events(10..12))]))).await;
    assert_eq!(outcome.dead_lettered, 2);
    assert_eq!(ledger(&test, "skipped", "").await, 3);
    assert_eq!(replay_newest(&test).await, Counts { received: 2, unique: 2, ..Counts::default() });
    assert_eq!(test.counts().await.received, 5);
}

pub async fn an_entry_whose_requests_are_all_stored_is_no_dead_letter(test: TestStore) {
    let [first, again] = sent_twice();
    test.commit(&batch(vec![entry(vec![first])])).await;
    let outcome = test.commit(&put_aside(letter_of(&[again]))).await;
    assert_eq!((outcome.dead_lettered, outcome.skipped), (0, 1));
    assert_eq!(ledger(&test, "skipped", "").await, 3);
    assert!(test.store.dead_letters(None, 1).await.unwrap().is_empty());
}

/// The acknowledgement was lost, and the next reader can decode the entry.
pub async fn an_entry_that_is_delivered_again_after_it_was_put_aside_is_replayed_whole(test: TestStore) {
    let [first, _] = sent_twice();
    let letter = letter_of(std::slice::from_ref(&first));
    let delivered = sluice_event::entry::Entry { id: letter.entry.unwrap(), requests: vec![first] };
    let again = Batch { entries: vec![(letter.dead_letter.position, delivered)], ..Batch::default() };
    test.commit(&put_aside(letter)).await;
    assert_eq!(test.commit(&again).await.skipped, 1);
    assert_eq!(ledger(&test, "skipped", "t").await, 0, "it was appended once");
    assert_eq!(replay_newest(&test).await, Counts { received: 3, unique: 3, ..Counts::default() });
}
