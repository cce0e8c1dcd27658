//! Deletion of events that arrived too long ago.

use std::time::Duration;

use sluice_event::Timestamp;
use sluice_event::entry::Request;
use sluice_store::{Counts, Maintenance};

use crate::batches::*;
use crate::stores::{Place, TestStore};

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
    assert!((age - 2 * DAY.as_micros() as i64).abs() < 60_000_000, "{horizon}: what was stored since then is there");

    let gone = test.store.maintain(&maintenance(Some(DAY * 2))).await.unwrap().events;
    assert_eq!(gone, 0);
    assert_eq!(test.statistics().await.dedup_horizon, Some(horizon), "what is gone stays gone");
    assert_eq!(test.counts().await.unique, 6_010, "the counters count what happened");
}

pub async fn without_retention_nothing_goes(test: TestStore) {
    test.commit(&batch_of(events(0..10))).await;
    test.make_stored_events_older(DAY * 10_000).await;
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
    test.age(test.audit_table(), "at", DAY * 3).await;
    let no_time = Maintenance { max_duration: Duration::ZERO, ..maintenance(Some(DAY)) };
    // A partition goes as a whole, and its rows in the first call.
    let by_partition = matches!(test.place, Place::Postgres(_)) && !test.in_one_table;
    let (mut calls, mut events, mut audit) = (0, 0, 0);
    loop {
        let removed = test.store.maintain(&no_time).await.unwrap();
        let has_both = !by_partition || calls == 0;
        assert_eq!(
            (removed.events > 0, removed.audit > 0),
            (has_both, has_both),
            "each call goes on with both: {removed:?}"
        );
        (calls, events, audit) = (calls + 1, events + removed.events, audit + removed.audit);
        if !removed.more {
            break;
        }
    }
    assert!(calls > 1, "{calls} calls");
    assert_eq!((events, audit), (12_000, 12_000));
    assert_eq!((test.rows().await, test.number("SELECT count(*) FROM audit").await), (0, 0));
}

pub async fn the_clock_of_a_publisher_does_not_decide_when_its_events_go(test: TestStore) {
    let from_a_clock_that_is_off_by = |days: i64, ids: std::ops::Range<u32>| {
        let now = Timestamp::now().as_micros();
        let accepted_at = Timestamp::from_micros(now + days * DAY.as_micros() as i64).expect("a time");
        batch(vec![entry(vec![Request { accepted_at, ..request(events(ids)) }])])
    };
    test.commit(&from_a_clock_that_is_off_by(-10, 0..10)).await;
    test.commit(&from_a_clock_that_is_off_by(10, 10..20)).await;
    assert_eq!(test.store.maintain(&maintenance(Some(DAY))).await.unwrap().events, 0, "they were stored just now");
    test.make_stored_events_older(DAY * 2).await;
    test.commit(&from_a_clock_that_is_off_by(-10, 20..25)).await;
    assert_eq!(test.store.maintain(&maintenance(Some(DAY))).await.unwrap().events, 20);
    assert_eq!(test.rows().await, 5);
}

pub async fn a_clock_that_is_set_forward_or_back_removes_nothing_and_keeps_nothing(test: TestStore) {
    test.commit(&batch_of(events(0..10))).await;
    let maintain = async || test.store.maintain(&maintenance(Some(DAY))).await.unwrap().events;
    maintain().await;
    test.age_marks(DAY * 3_650).await;
    assert_eq!((maintain().await, maintain().await), (0, 0), "the clock was set forward by ten years");
    assert_eq!(test.rows().await, 10);
    test.run(&match test.place {
        Place::Postgres(_) => "UPDATE arrival_marks SET counts_from = counts_from + interval '3650 days'".to_owned(),
        Place::Sqlite(_) => format!("UPDATE arrival_marks SET counts_from = counts_from + {}", DAY.as_micros() * 3_650),
    })
    .await;
    assert_eq!((maintain().await, maintain().await), (0, 0), "and set back");
    test.make_stored_events_older(DAY * 2).await;
    assert_eq!(maintain().await, 10, "two days later they go all the same");
}

pub async fn a_process_that_starts_after_a_long_time_removes_nothing_in_its_first_call(test: TestStore) {
    test.commit(&batch_of(events(0..10))).await;
    test.store.maintain(&maintenance(Some(DAY))).await.unwrap();
    test.close_partition().await;
    test.age_marks(DAY * 2).await;
    let started = test.open_again(&test.options.keyer).await.unwrap();
    assert_eq!(started.maintain(&maintenance(Some(DAY))).await.unwrap().events, 0, "the clock may be wrong");
    assert_eq!(started.maintain(&maintenance(Some(DAY))).await.unwrap().events, 10, "it is the same a minute later");
}

pub async fn events_that_were_stored_before_there_were_marks_go_by_the_time_of_the_publisher(test: TestStore) {
    for first in (0..1_000).step_by(10) {
        test.commit(&batch_of(events(first..first + 10))).await;
    }
    test.run("DROP TABLE arrival_marks; DELETE FROM _sqlx_migrations WHERE version = 2").await;
    let days = match test.place {
        Place::Postgres(_) => "interval '2 days'".to_owned(),
        Place::Sqlite(_) => (2 * DAY).as_micros().to_string(),
    };
    let old = "CAST(event_id AS INTEGER) < 500";
    test.run(&format!("UPDATE events SET received_at = received_at - {days} WHERE {old}")).await;
    let upgraded = test.open_again(&test.options.keyer).await.unwrap();
    let removed = upgraded.maintain(&maintenance(Some(DAY))).await.unwrap().events;
    // The last ones wait for the next mark.
    assert!((480..=500).contains(&removed), "{removed}");
    assert_eq!(test.number(&format!("SELECT count(*) FROM events WHERE NOT {old}")).await, 500);
}
