//! The effects of one commit.

use sluice_event::{EntryId, Event, Keyer, ReceiptId, Timestamp};
use sluice_store::commit::{Batch, Outcome, commit};
use sluice_store::series::BatchCounts;
use sluice_store::{Counts, EventQuery, StoreError};

use crate::batches::*;
use crate::stores::TestStore;

fn counts(received: u64, unique: u64, duplicates: u64, conflicts: u64) -> Counts {
    Counts { received, unique, duplicates, conflicts }
}

async fn payload(test: &TestStore, topic: &str, id: &str) -> String {
    let found = test.store.event(topic, id, 10).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].payload.clone()
}

pub async fn a_batch_is_stored_and_counted(test: TestStore) {
    let batch = batch(vec![
        entry(vec![request(vec![event("a", 1, "1"), event("b", 1, "2")]), request(events([1, 2]))]),
        entry(vec![request(events([3]))]),
    ]);
    let outcome = test.commit(&batch).await;
    assert_eq!(outcome, Outcome { counts: counts(5, 5, 0, 0), dead_lettered: 0, skipped: 0, number: None });
    let statistics = test.statistics().await;
    assert_eq!(statistics.topics["a"], counts(1, 1, 0, 0));
    assert_eq!(statistics.topics["b"], counts(1, 1, 0, 0));
    assert_eq!(statistics.topics["t"], counts(3, 3, 0, 0));
    assert_eq!((statistics.dead_lettered, statistics.dedup_horizon), (0, None));
    assert_eq!(test.rows().await, 5);
}

pub async fn an_event_comes_back_exactly_as_it_was_sent(test: TestStore) {
    let payload = "{ \"b\" : 1.00, \"a\" : 123456789012345678901234567890, \"a\\u0301\" : [\"😀\", 1e400] }";
    let sent: Vec<Event<'_>> = vec![
        Event { timestamp: at("0001-01-01T00:00:00Z"), ..from("", event("tôpic 'q' \"d\"", "ïd\n1", payload)) },
        Event { timestamp: at("9999-12-30T22:00:00.999999Z"), ..from("shop", event("t", "2", "null")) },
        Event { timestamp: at("1969-12-31T23:59:59.999999Z"), ..event("t", "3", "\"\"") },
    ];
    let request = request(sent.clone());
    let (request_id, accepted_at) = (request.id, request.accepted_at);
    test.commit(&batch(vec![entry(vec![request])])).await;
    for event in sent {
        let found = test.store.event(&event.topic, &event.event_id, 10).await.unwrap();
        assert_eq!(found.len(), 1, "{event:?}");
        assert_eq!(found[0].topic, event.topic);
        assert_eq!(found[0].event_id, event.event_id);
        assert_eq!(found[0].timestamp, event.timestamp);
        assert_eq!(found[0].source.as_deref(), event.source.as_deref());
        assert_eq!(found[0].payload, event.payload);
        assert_eq!((found[0].request_id, found[0].received_at), (request_id, accepted_at));
    }
}

pub async fn a_repeated_entry_is_skipped(test: TestStore) {
    let batch = batch_of(events(0..10));
    test.commit(&batch).await;
    let outcome = test.commit(&again(&batch)).await;
    assert_eq!(outcome, Outcome { counts: Counts::default(), dead_lettered: 0, skipped: 1, number: None });
    assert_eq!(test.counts().await, counts(10, 10, 0, 0));
}

pub async fn a_repeated_entry_is_skipped_also_within_one_batch(test: TestStore) {
    let first = entry(vec![request(events(0..10))]);
    let outcome = test.commit(&batch(vec![first.clone(), entry(vec![request(events(5..15))]), first])).await;
    assert_eq!(outcome, Outcome { counts: counts(20, 15, 5, 0), dead_lettered: 0, skipped: 1, number: None });
}

pub async fn a_repeated_request_is_skipped_and_the_rest_of_its_entry_is_not(test: TestStore) {
    let receipt = ReceiptId::from(EntryId::random());
    let first = batch(vec![
        entry(vec![keyed(receipt, events([1, 2])), request(events([3]))]),
        // Repeated within the batch, by another publisher: another entry, another request id.
        entry(vec![keyed(receipt, events([1, 2])), request(events([4]))]),
    ]);
    assert_eq!(
        test.commit(&first).await,
        Outcome { counts: counts(4, 4, 0, 0), dead_lettered: 0, skipped: 1, number: None }
    );
    let later = batch(vec![entry(vec![request(events([4, 5])), keyed(receipt, events([1, 2]))])]);
    assert_eq!(
        test.commit(&later).await,
        Outcome { counts: counts(2, 1, 1, 0), dead_lettered: 0, skipped: 1, number: None }
    );
    assert_eq!(test.counts().await, counts(6, 5, 1, 0));
}

pub async fn duplicates_inside_a_batch_are_dropped_in_stream_order(test: TestStore) {
    let batch = batch(vec![
        entry(vec![request(vec![event("t", 1, "\"first\""), event("t", 1, "\"second\"")])]),
        entry(vec![request(vec![event("t", 1, "\"first\""), event("t", 2, "0")])]),
    ]);
    let outcome = test.commit(&batch).await;
    assert_eq!(outcome.counts, counts(4, 2, 2, 1));
    assert_eq!(payload(&test, "t", "1").await, "\"first\"");
}

pub async fn a_duplicate_with_another_payload_is_a_conflict_and_the_first_payload_stays(test: TestStore) {
    test.commit(&batch_of(vec![event("t", 1, "{\"a\":1,\"b\":2}")])).await;
    let same = test.commit(&batch_of(vec![event("t", 1, "{ \"b\":2, \"a\":1 }")])).await;
    assert_eq!(same.counts, counts(1, 0, 1, 0), "the same value, written differently");
    let other = test.commit(&batch_of(vec![event("t", 1, "{\"a\":1,\"b\":3}")])).await;
    assert_eq!(other.counts, counts(1, 0, 1, 1));
    assert_eq!(test.counts().await, counts(3, 1, 2, 1));
    assert_eq!(payload(&test, "t", "1").await, "{\"a\":1,\"b\":2}");
}

pub async fn equal_payloads_under_different_ids_stay_apart(test: TestStore) {
    let batch = batch_of((0..100).map(|id| event("t", id, "{\"same\":true}")).collect());
    assert_eq!(test.commit(&batch).await.counts, counts(100, 100, 0, 0));
    assert_eq!(test.rows().await, 100);
}

pub async fn what_was_not_committed_is_new_when_it_comes_again(test: TestStore) {
    let batch = batch_of(events([1, 2, 2]));
    // Events are inserted, and then the counters fail.
    test.run("ALTER TABLE counters RENAME TO away").await;
    let failed = commit(&*test.store, &test.options, &batch).await;
    assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
    test.run("ALTER TABLE away RENAME TO counters").await;
    let options = test.options.clone();
    assert_eq!(test.commit_until_done(&options, &batch).await.counts, counts(3, 2, 1, 0));
    assert_eq!(test.rows().await, 2);
}

pub async fn a_transaction_that_is_dropped_leaves_nothing_behind(test: TestStore) {
    let id = ReceiptId::from(EntryId::random());
    let (mut transaction, _) = test.store.begin(&[]).await.unwrap();
    assert_eq!(transaction.insert_receipts(&[id]).await.unwrap().len(), 1);
    drop(transaction);
    let (mut transaction, _) = test.store.begin(&[]).await.unwrap();
    assert_eq!(transaction.insert_receipts(&[id]).await.unwrap().len(), 1, "the receipt was rolled back");
    transaction.commit("", &BatchCounts::default(), None).await.unwrap();
    assert_eq!(test.number("SELECT count(*) FROM receipts").await, 1);
}

pub async fn a_large_batch_is_stored_whole(test: TestStore) {
    // More than one statement's worth of bytes, and numbers of rows that no statement size divides.
    let payload = format!("\"{}\"", "x".repeat(10_000));
    let first = batch_of((0..2_399).map(|id| event("t", id, &payload)).collect());
    assert_eq!(test.commit(&first).await.counts, counts(2_399, 2_399, 0, 0));
    let second = batch_of((1_200..4_799).map(|id| event("t", id, &payload)).collect());
    assert_eq!(test.commit(&second).await.counts, counts(3_599, 2_400, 1_199, 0));
    assert_eq!(test.rows().await, 4_799);
}

pub async fn the_audit_trail_has_a_row_for_each_dropped_duplicate(mut test: TestStore) {
    test.commit(&batch_of(events([1, 1]))).await;
    assert_eq!(test.number("SELECT count(*) FROM audit").await, 0, "it is off by default");
    test.options.audit = true;
    test.commit(&batch_of(vec![event("t", 1, "{}"), event("t", 1, "[]"), event("t", 2, "{}")])).await;
    assert_eq!(test.number("SELECT count(*) FROM audit").await, 2);
    let conflicts = "SELECT coalesce(sum(CASE WHEN conflict THEN 1 ELSE 0 END), 0) FROM audit";
    assert_eq!(test.number(conflicts).await, 1);
}

pub async fn attempts_are_counted_until_the_entry_is_committed(test: TestStore) {
    assert_eq!(test.store.mark_attempt(position(1)).await.unwrap(), 1);
    assert_eq!(test.store.mark_attempt(position(1)).await.unwrap(), 2);
    assert_eq!(test.store.mark_attempt(position(2)).await.unwrap(), 1);
    let batch = Batch { attempted: Some(position(1)), ..batch_of(events([1])) };
    test.commit(&batch).await;
    assert_eq!(test.store.mark_attempt(position(1)).await.unwrap(), 1);
    assert_eq!(test.store.mark_attempt(position(2)).await.unwrap(), 2);
}

pub async fn a_forced_key_collision_drops_the_second_event_as_a_conflict(test: TestStore) {
    let test = test.another(Keyer::default().truncated_for_tests(0)).await;
    test.commit(&batch_of(vec![event("t", 1, "1")])).await;
    assert_eq!(test.commit(&batch_of(vec![event("t", 2, "2")])).await.counts, counts(1, 0, 1, 1));
    assert_eq!(payload(&test, "t", "1").await, "1");
    assert!(test.store.event("t", "2", 1).await.unwrap().is_empty(), "the other event is not shown for it");
    let page = test.store.events(&EventQuery { limit: 10, ..EventQuery::default() }).await.unwrap();
    assert_eq!(page.events.len(), 1);
    assert!(page.events[0].received_at <= Timestamp::now());
}

/// The publisher refuses it; the log may have other writers one day.
pub async fn a_topic_may_be_empty_or_hold_what_has_a_meaning_in_sql(test: TestStore) {
    let topics = ["", "'); --", "{\"a\",NULL}", "\\", "ü"];
    let outcome = test.commit(&batch_of(topics.iter().map(|topic| event(topic, 1, "{}")).collect())).await;
    assert_eq!(outcome.counts, counts(5, 5, 0, 0));
    let stored: Vec<_> = test.statistics().await.topics.into_iter().collect();
    let mut expected: Vec<_> = topics.iter().map(|topic| (topic.to_string(), counts(1, 1, 0, 0))).collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(stored, expected);
}

pub async fn an_attempt_that_was_taken_back_does_not_count(test: TestStore) {
    for _ in 0..3 {
        assert_eq!(test.store.mark_attempt(position(7)).await.unwrap(), 1);
        test.store.unmark_attempt(position(7)).await.unwrap();
    }
    // There is none to take back.
    test.store.unmark_attempt(position(7)).await.unwrap();
    test.store.unmark_attempt(position(8)).await.unwrap();
    assert_eq!(test.store.mark_attempt(position(7)).await.unwrap(), 1);
}
