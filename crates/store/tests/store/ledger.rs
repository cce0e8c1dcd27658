//! What happened to events that neither the counters nor the rows tell.

use std::time::Duration;

use sluice_event::{EntryId, ReceiptId};
use sluice_store::commit::Batch;
use sluice_store::put_aside::PutAside;
use sluice_store::{CommitOptions, Maintenance, NewDeadLetter};

use crate::batches::*;
use crate::stores::TestStore;

/// The number of events of this kind and topic in the ledger.
pub async fn ledger(test: &TestStore, kind: &str, topic: &str) -> i64 {
    let sql = "SELECT CAST(coalesce(sum(events), 0) AS bigint) FROM ledger";
    test.number(&format!("{sql} WHERE kind = '{kind}' AND topic = '{topic}'")).await
}

pub async fn a_second_append_of_an_entry_is_counted_and_a_second_delivery_is_not(test: TestStore) {
    let first = batch_of(events(0..3));
    test.commit(&first).await;
    assert_eq!(test.commit(&again(&first)).await.skipped, 1);
    assert_eq!(ledger(&test, "skipped", "t").await, 0, "delivered twice, appended once");

    let entries = first.entries.iter().map(|(_, entry)| (position(99), entry.clone())).collect();
    let appended_again = Batch { entries, ..Batch::default() };
    for _ in 0..2 {
        assert_eq!(test.commit(&appended_again).await.skipped, 1);
        assert_eq!(ledger(&test, "skipped", "t").await, 3, "appended twice");
    }
    assert_eq!(test.counts().await.received, 3);
}

pub async fn the_events_of_a_repeated_request_are_counted_by_topic(test: TestStore) {
    let receipt = ReceiptId::from(EntryId::random());
    let sent = || vec![event("a", 1, "{}"), event("b", 1, "{}"), event("b", 2, "{}")];
    test.commit(&batch(vec![entry(vec![keyed(receipt, sent())])])).await;
    test.commit(&batch(vec![entry(vec![keyed(receipt, sent()), request(vec![event("c", 1, "{}")])])])).await;
    assert_eq!(ledger(&test, "skipped", "a").await, 1);
    assert_eq!(ledger(&test, "skipped", "b").await, 2);
    assert_eq!(ledger(&test, "skipped", "c").await, 0);
}

pub async fn a_dead_letter_of_an_entry_is_counted_once_per_append(test: TestStore) {
    let letter = letter(events(0..4));
    let at = |sequence| {
        let dead_letter = NewDeadLetter { position: position(sequence), ..letter.dead_letter.clone() };
        Batch { dead_letters: vec![PutAside { dead_letter, ..letter.clone() }], ..Batch::default() }
    };
    for (sequence, skipped) in [(1, 0), (1, 0), (2, 4), (2, 4)] {
        test.commit(&at(sequence)).await;
        assert_eq!(ledger(&test, "skipped", "").await, skipped);
    }
    assert_eq!(test.statistics().await.dead_lettered, 4);
}

pub async fn removed_events_and_audit_rows_are_counted(test: TestStore) {
    let options = CommitOptions { audit: true, ..test.options.clone() };
    test.commit_until_done(&options, &batch_of(events(0..5))).await;
    test.commit_until_done(&options, &batch_of(vec![event("u", 1, "{}"), event("u", 1, "{}")])).await;
    assert_eq!(ledger(&test, "audited", "").await, 1);
    let hour = Duration::from_secs(3_600);
    test.make_stored_events_older(hour * 2).await;
    let maintenance = Maintenance { receipts_ttl: hour * 24, retention: Some(hour), max_duration: hour };
    test.store.maintain(&maintenance).await.unwrap();
    assert_eq!(test.rows().await, 0);
    assert_eq!((ledger(&test, "removed", "t").await, ledger(&test, "removed", "u").await), (5, 1));
    let left = test.number("SELECT count(*) FROM audit").await;
    assert_eq!(ledger(&test, "audit_removed", "").await + left, 1);
}
