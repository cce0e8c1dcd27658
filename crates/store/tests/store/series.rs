//! Series: what happened to events, by topic and minute of arrival, adds up to the counters in every committed state.

use std::sync::Arc;
use std::time::Duration;

use sluice_event::Timestamp;
use sluice_event::entry::Request;
use sluice_store::commit::{Batch, replay};
use sluice_store::series::{Minute, SeriesCounts, SeriesQuery};
use sluice_store::{CommitOptions, Counts};

use crate::batches::*;
use crate::stores::{Place, TestStore};

/// Events that a publisher has accepted at this time.
fn accepted(at: Timestamp, events: Vec<sluice_event::Event<'static>>) -> Batch<'static> {
    batch(vec![entry(vec![Request { accepted_at: at, ..request(events) }])])
}

fn counts(received: u64, unique: u64, duplicates: u64, conflicts: u64) -> SeriesCounts {
    SeriesCounts { counts: Counts { received, unique, duplicates, conflicts }, dead_lettered: 0 }
}

fn dead(dead_lettered: u64) -> SeriesCounts {
    SeriesCounts { dead_lettered, ..SeriesCounts::default() }
}

/// Returns the series of these topics, or of all, by steps of so many minutes.
async fn series(test: &TestStore, topics: Option<&[&str]>, step: u32) -> Vec<(i64, SeriesCounts)> {
    let topics = topics.map(|topics| topics.iter().map(|&topic| topic.to_owned()).collect());
    let (from, to) = (Minute(-1_000_000), Minute(1_000_000_000));
    let rows = test.store.series(&SeriesQuery { topics, from, to, step }).await.expect("series");
    rows.into_iter().map(|(minute, counts)| (minute.0, counts)).collect()
}

async fn maintain(test: &TestStore, retention: Option<Duration>) {
    test.store.maintain_series(retention).await.expect("maintenance of series");
}

pub async fn events_are_counted_in_the_minute_in_which_they_were_accepted(test: TestStore) {
    let first = accepted(at("2026-01-31T12:00:59.999999Z"), vec![event("a", 1, "1"), event("b", 1, "1")]);
    test.commit(&first).await;
    let later = vec![event("a", 1, "1"), event("a", 1, "2"), event("a", 2, "1")];
    test.commit(&accepted(at("2026-01-31T12:01:00Z"), later)).await;
    test.commit(&again(&first)).await;
    let minute = Minute::from(at("2026-01-31T12:00:00Z")).0;
    let of_a = vec![(minute, counts(1, 1, 0, 0)), (minute + 1, counts(3, 1, 2, 1))];
    for _ in 0..2 {
        assert_eq!(series(&test, Some(&["a"]), 1).await, of_a);
        assert_eq!(series(&test, Some(&["b", "c"]), 1).await, [(minute, counts(1, 1, 0, 0))]);
        assert_eq!(series(&test, None, 1).await, [(minute, counts(2, 2, 0, 0)), (minute + 1, counts(3, 1, 2, 1))]);
        assert_eq!(
            series(&test, None, 60).await,
            [(minute, counts(5, 3, 2, 1))],
            "noon is the first minute of its hour"
        );
        assert_eq!(series(&test, Some(&[]), 60).await, []);
        // Adding them up changes nothing.
        maintain(&test, None).await;
    }
}

pub async fn the_ends_of_a_series_are_its_first_minute_and_the_one_after_its_last(test: TestStore) {
    for time in ["1969-12-31T23:58:00Z", "1969-12-31T23:59:00Z", "1970-01-01T00:00:30Z", "1970-01-01T00:14:59Z"] {
        test.commit(&accepted(at(time), events([time]))).await;
    }
    for _ in 0..2 {
        let rows = async |from, to, step| {
            let query = SeriesQuery { topics: None, from: Minute(from), to: Minute(to), step };
            let rows = test.store.series(&query).await.expect("series");
            rows.into_iter().map(|(minute, counts)| (minute.0, counts.counts.received)).collect::<Vec<_>>()
        };
        assert_eq!(rows(-1, 14, 1).await, [(-1, 1), (0, 1)]);
        assert_eq!(rows(-2, 15, 15).await, [(-15, 2), (0, 2)]);
        maintain(&test, None).await;
    }
}

pub async fn dead_letters_are_counted_when_they_become_some_and_their_events_when_they_are_replayed(test: TestStore) {
    test.refuse_poison().await;
    let sent = vec![event("a", 1, "\"poison\""), event("a", 2, "{}"), event("b", 3, "\"poison\"")];
    test.commit(&accepted(at("2026-01-31T12:00:00Z"), sent)).await;
    let minute = Minute::from(at("2026-01-31T12:00:00Z")).0;
    assert_eq!(series(&test, Some(&["b"]), 1).await, [(minute, dead(1))]);
    let both = SeriesCounts { dead_lettered: 2, ..counts(1, 1, 0, 0) };
    assert_eq!(series(&test, None, 1).await, [(minute, both)]);
    test.accept_poison().await;
    for letter in test.store.dead_letters(None, 10).await.unwrap() {
        replay(&*test.store, &test.options, letter.id).await.expect("a replay").expect("the dead letter");
    }
    assert_eq!(
        series(&test, Some(&["b"]), 1).await,
        [(minute, SeriesCounts { dead_lettered: 1, ..counts(1, 1, 0, 0) })]
    );
    test.counts().await;
}

pub async fn a_whole_entry_that_is_dead_lettered_is_counted_without_a_topic(test: TestStore) {
    let put_aside = Batch { dead_letters: vec![letter(events(0..3))], ..Batch::default() };
    let before = Minute::now().0;
    test.commit(&put_aside).await;
    test.commit(&again(&put_aside)).await;
    let rows = series(&test, None, 1).await;
    assert!(matches!(&*rows, [(minute, _)] if (before..=Minute::now().0).contains(minute)), "{rows:?}");
    assert_eq!(rows[0].1, dead(3));
    assert_eq!(series(&test, Some(&["t"]), 1).await, []);
}

pub async fn a_series_stays_exact_while_batches_are_committed_and_added_up(test: TestStore) {
    let test = Arc::new(test);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let test = Arc::clone(&test);
            tokio::spawn(async move {
                let options = CommitOptions { shard: format!("replica/{writer}"), ..test.options.clone() };
                for number in 0..20 {
                    let batch = accepted(at("2026-01-31T12:00:00Z"), events(number * 5..number * 5 + 10));
                    test.commit_until_done(&options, &batch).await;
                }
            })
        })
        .collect();
    let adding = async {
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            maintain(&test, None).await;
            let rows = series(&test, None, 1).await;
            let sum = rows.iter().map(|(_, row)| row.counts.unique + row.counts.duplicates).sum::<u64>();
            assert_eq!(rows.iter().map(|(_, row)| row.counts.received).sum::<u64>(), sum);
        }
    };
    adding.await;
    for writer in writers {
        writer.await.expect("a writer");
    }
    let expected = counts(800, 105, 695, 0);
    for _ in 0..2 {
        assert_eq!(series(&test, None, 1).await.iter().map(|(_, counts)| *counts).collect::<Vec<_>>(), [expected]);
        maintain(&test, None).await;
    }
    if let Place::Postgres(_) = test.place {
        assert_eq!(test.number("SELECT count(*) FROM series_batches").await, 0, "all are added up");
        assert_eq!(test.number("SELECT count(*) FROM series").await, 1);
    }
}

pub async fn minutes_that_ended_before_the_retention_are_removed_and_no_others(test: TestStore) {
    let hour = Duration::from_secs(3_600);
    let ago = |hours: i64| Timestamp::from_micros(Timestamp::now().as_micros() - hours * 3_600_000_000).unwrap();
    for hours in [0, 1, 3, 30] {
        test.commit(&accepted(ago(hours), events([hours]))).await;
    }
    maintain(&test, None).await;
    let received = async || series(&test, None, 1).await.len();
    assert_eq!(received().await, 4);
    maintain(&test, Some(hour * 2)).await;
    assert_eq!(received().await, 2);
    maintain(&test, Some(hour * 2)).await;
    assert_eq!((received().await, test.rows().await), (2, 4), "the events stay");
}
