//! Deletion of events that arrived too long ago.

use std::time::Duration;

use sluice_event::Timestamp;
use sluice_store::{Counts, Maintenance};

use crate::batches::*;
use crate::stores::TestStore;

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn maintenance(retention: Option<Duration>) -> Maintenance {
    Maintenance { receipts_ttl: DAY, retention, max_duration: Duration::from_secs(5) }
}

pub async fn old_events_go_and_the_statistics_say_how_far_back_duplicates_are_recognised(test: TestStore) {
    // More than one chunk of them.
    test.commit(&batch_of(events(0..6_000))).await;
    test.make_stored_events_older(DAY * 2).await;
    test.commit(&batch_of(events(6_000..6_010))).await;
    assert_eq!(test.statistics().await.dedup_horizon, None);

    let gone = test.store.maintain(&maintenance(Some(DAY))).await.unwrap().events;
    assert_eq!(gone, 6_000);
    assert_eq!(test.rows().await, 10);
    let horizon = test.statistics().await.dedup_horizon.expect("a horizon");
    let age = Timestamp::now().as_micros() - horizon.as_micros();
    assert!((age - DAY.as_micros() as i64).abs() < 60_000_000, "{horizon} is a day ago");

    let gone = test.store.maintain(&maintenance(Some(DAY * 2))).await.unwrap().events;
    assert_eq!(gone, 0);
    assert_eq!(test.statistics().await.dedup_horizon, Some(horizon), "what is gone stays gone");
    assert_eq!(test.counts().await.unique, 6_010, "the counters count what happened");
}

pub async fn without_retention_nothing_goes(test: TestStore) {
    test.commit(&batch_of(events(0..10))).await;
    test.age("events", "received_at", DAY * 10_000).await;
    assert_eq!(test.store.maintain(&maintenance(None)).await.unwrap().events, 0);
    assert_eq!(test.rows().await, 10);
}

pub async fn an_event_that_retention_removed_is_new_again(test: TestStore) {
    test.commit(&batch_of(events(0..3))).await;
    test.make_stored_events_older(DAY * 2).await;
    test.store.maintain(&maintenance(Some(DAY))).await.unwrap();
    let outcome = test.commit(&batch_of(events(0..3))).await;
    assert_eq!(outcome.counts, Counts { received: 3, unique: 3, ..Counts::default() });
    assert_eq!(test.rows().await, 3);
}

pub async fn a_call_that_ends_for_lack_of_time_says_that_more_is_left(mut test: TestStore) {
    test.options.audit = true;
    test.commit(&batch_of(events((0..12_000).chain(0..12_000)))).await;
    test.make_stored_events_older(DAY * 2).await;
    test.age("audit", "at", DAY * 2).await;
    let no_time = Maintenance { max_duration: Duration::ZERO, ..maintenance(Some(DAY)) };
    let (mut calls, mut events, mut audit) = (0, 0, 0);
    loop {
        let removed = test.store.maintain(&no_time).await.unwrap();
        assert!(removed.events > 0 && removed.audit > 0, "each call goes on with both: {removed:?}");
        (calls, events, audit) = (calls + 1, events + removed.events, audit + removed.audit);
        if !removed.more {
            break;
        }
    }
    assert!(calls > 1, "{calls} calls");
    assert_eq!((events, audit), (12_000, 12_000));
    assert_eq!((test.rows().await, test.number("SELECT count(*) FROM audit").await), (0, 0));
}
