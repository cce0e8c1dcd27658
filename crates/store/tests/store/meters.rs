//! Meters count an event if and only if a transaction has stored it, whatever happens at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_event::entry::Request;
use sluice_event::{Event, Timestamp};
use sluice_meter::answer::Question;
use sluice_meter::fold::Length;
use sluice_meter::{Definition, MAX_METERS, group};
use sluice_store::commit::{Batch, commit, replay};
use sluice_store::meters::{MeterReading, MeterStatus, PutMeter};
use sluice_store::{CommitOptions, Maintenance, StoreError};

use crate::batches::*;
use crate::stores::{Place, TestStore, direct};

pub const SUM: &str = r#"{"aggregation":"sum","value":"/n","group_by":["topic"],"time":"received_at"}"#;
const COUNT: &str = r#"{"aggregation":"count","time":"received_at"}"#;

/// Events that a publisher has accepted at this time.
pub fn accepted(at: Timestamp, events: Vec<Event<'static>>) -> Batch<'static> {
    batch(vec![entry(vec![Request { accepted_at: at, ..request(events) }])])
}

fn noon() -> Timestamp {
    at("2026-01-31T12:00:00Z")
}

fn minute_of(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(60_000_000)
}

fn definition(json: &str) -> Definition {
    Definition::parse(json.as_bytes()).expect(json)
}

pub async fn put(test: &TestStore, name: &str, json: &str) -> PutMeter {
    loop {
        match test.store.put_meter(name, &definition(json)).await {
            Err(StoreError::Conflict(_)) => tokio::task::yield_now().await,
            put => return put.expect("a meter"),
        }
    }
}

/// Lets maintenance do all that there is to do.
pub async fn maintain(test: &TestStore) {
    while test.store.maintain_meters().await.expect("maintenance of meters").is_none_or(|figures| figures.more) {}
}

async fn status(test: &TestStore, name: &str) -> Option<MeterStatus> {
    test.store.meters().await.expect("meters").into_iter().find(|meter| meter.shown.name == name)
}

/// The values by the first minute of their window and their groups, joined by commas. `-` is a group without a value.
pub type Figures = BTreeMap<(i64, String), String>;

pub async fn figures(test: &TestStore, name: &str, length: Length) -> Figures {
    let meter = status(test, name).await.unwrap_or_else(|| panic!("there is no meter {name}")).shown;
    let step = length.minutes();
    let first = (minute_of(noon()) - 24 * 60).div_euclid(60) * 60;
    let boundaries: Vec<i64> = (0..=48 * 60 / step).map(|n| first + n * step).collect();
    let group_by = (0..meter.definition.group_by.len()).collect();
    let question = Question { boundaries: boundaries.clone(), group_by, filter: Vec::new() };
    let reading = test.store.read_meter(meter.id, length, question).await.expect("figures");
    let MeterReading::Figures(answer) = reading else { panic!("{reading:?}") };
    let windows = boundaries.iter().zip(answer.windows());
    let figures = windows.flat_map(|(start, window)| {
        window.groups().map(|(key, figure)| {
            let values = group::values(key).unwrap_or_else(|| vec![Some("other")]);
            let values: Vec<_> = values.into_iter().map(|value| value.unwrap_or("-")).collect();
            let shown = figure.shown(meter.definition.aggregation);
            let value = if shown.is_erased { "erased".to_owned() } else { shown.value.to_string() };
            ((*start, values.join(",")), value)
        })
    });
    figures.collect()
}

/// Returns the figures of noon, by groups.
pub async fn at_noon(test: &TestStore, name: &str) -> BTreeMap<String, String> {
    figures(test, name, Length::Minute)
        .await
        .into_iter()
        .map(|((minute, groups), value)| {
            assert_eq!(minute, minute_of(noon()));
            (groups, value)
        })
        .collect()
}

fn of<const N: usize>(figures: [(&str, &str); N]) -> BTreeMap<String, String> {
    figures.map(|(groups, value)| (groups.to_owned(), value.to_owned())).into()
}

pub async fn an_event_is_counted_if_and_only_if_it_was_stored(test: TestStore) {
    assert_eq!(put(&test, "sum", SUM).await, PutMeter::Added);
    let first =
        accepted(noon(), vec![event("a", 1, r#"{"n":"0.1"}"#), event("b", 1, r#"{"n":5}"#), event("a", 3, "{}")]);
    test.commit(&first).await;
    test.commit(&again(&first)).await;
    let later = vec![event("a", 1, r#"{"n":9}"#), event("a", 2, r#"{"n":0.2}"#), event("a", 2, r#"{"n":0.2}"#)];
    test.commit(&accepted(noon(), later)).await;
    for _ in 0..2 {
        assert_eq!(at_noon(&test, "sum").await, of([("a", "0.3"), ("b", "5")]));
        maintain(&test).await;
    }
    let MeterStatus { shown, next } = status(&test, "sum").await.unwrap();
    assert_eq!((shown.skipped, shown.windows, next), (1, 1, None));
    assert_eq!(shown.example.as_deref(), Some("3 of topic a: it has no value there"));
    assert!(shown.is_complete() && shown.complete_from.is_none());
}

pub async fn windows_of_all_lengths_agree(test: TestStore) {
    put(&test, "count", COUNT).await;
    let times = ["2026-01-31T11:59:59.9Z", "2026-01-31T12:00:00Z", "2026-01-31T12:14:00Z", "2026-01-31T12:15:00Z"];
    for time in times {
        test.commit(&accepted(at(time), events([time]))).await;
    }
    let noon = minute_of(noon());
    let of = |figures: &[(i64, &str)]| {
        figures.iter().map(|(minute, value)| ((noon + minute, String::new()), (*value).to_owned())).collect::<Figures>()
    };
    for folded in [false, true] {
        if folded {
            maintain(&test).await;
            assert_eq!(test.number("SELECT count(*) FROM meter_batches").await, 0);
        }
        let minutes = of(&[(-1, "1"), (0, "1"), (14, "1"), (15, "1")]);
        assert_eq!(figures(&test, "count", Length::Minute).await, minutes);
        assert_eq!(figures(&test, "count", Length::Quarter).await, of(&[(-15, "1"), (0, "2"), (15, "1")]));
        assert_eq!(figures(&test, "count", Length::Hour).await, of(&[(-60, "1"), (0, "3")]));
    }
}

pub async fn what_was_not_committed_is_not_counted(test: TestStore) {
    put(&test, "count", COUNT).await;
    test.refuse_poison().await;
    let sent = vec![event("a", 1, "\"poison\""), event("a", 2, "{}"), event("b", 3, "\"poison\"")];
    test.commit(&accepted(noon(), sent)).await;
    assert_eq!(at_noon(&test, "count").await, of([("", "1")]));
    test.accept_poison().await;
    for letter in test.store.dead_letters(None, 10).await.unwrap() {
        replay(&*test.store, &test.options, letter.id).await.expect("a replay").expect("the dead letter");
    }
    maintain(&test).await;
    assert_eq!(at_noon(&test, "count").await, of([("", "3")]));
}

pub async fn a_meter_that_is_added_counts_what_is_before_and_after_it_once(test: TestStore) {
    let test = Arc::new(test);
    const WRITERS: usize = 4;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let test = Arc::clone(&test);
            tokio::spawn(async move {
                let options = CommitOptions { shard: format!("replica/{writer}"), ..test.options.clone() };
                for number in 0..25 {
                    // Half of them were sent before, by this writer or another.
                    let events = events(number * 5..number * 5 + 10);
                    test.commit_until_done(&options, &accepted(noon(), events)).await;
                }
            })
        })
        .collect();
    let mut added = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) || added < 3 {
        if added < 6 {
            assert_eq!(put(&test, &format!("count-{added}"), COUNT).await, PutMeter::Added);
            added += 1;
        }
        test.store.maintain_meters().await.expect("maintenance");
    }
    for writer in writers {
        writer.await.expect("a writer");
    }
    let stored = test.rows().await.to_string();
    maintain(&test).await;
    for meter in 0..added {
        assert_eq!(at_noon(&test, &format!("count-{meter}")).await, of([("", &stored)]), "count-{meter}");
        assert!(status(&test, &format!("count-{meter}")).await.unwrap().shown.is_complete());
    }
}

pub async fn a_changed_meter_shows_its_former_figures_until_the_new_ones_are_complete(test: TestStore) {
    put(&test, "m", COUNT).await;
    test.commit(&accepted(noon(), vec![event("a", 1, r#"{"n":1.5}"#), event("b", 2, r#"{"n":2}"#)])).await;
    maintain(&test).await;
    assert_eq!(put(&test, "m", SUM).await, PutMeter::Changed);
    test.commit(&accepted(noon(), vec![event("a", 3, r#"{"n":1e2}"#)])).await;
    let changing = status(&test, "m").await.unwrap();
    assert_eq!(changing.shown.definition, definition(COUNT));
    assert_eq!(changing.next.as_ref().map(|next| &next.definition), Some(&definition(SUM)));
    assert_eq!(at_noon(&test, "m").await, of([("", "3")]), "the former one goes on counting");
    maintain(&test).await;
    let changed = status(&test, "m").await.unwrap();
    assert_eq!((&changed.shown.definition, changed.next), (&definition(SUM), None));
    assert_eq!(at_noon(&test, "m").await, of([("a", "101.5"), ("b", "2")]));
    let gone = test.store.read_meter(
        changing.shown.id,
        Length::Hour,
        Question { boundaries: vec![0, 60], group_by: vec![], filter: vec![] },
    );
    assert!(matches!(gone.await, Ok(MeterReading::Gone)));
    maintain(&test).await;
    let windows = "SELECT count(*) FROM meter_windows WHERE meter <> (SELECT id FROM meters)";
    assert_eq!(test.number(windows).await, 0, "the windows of the former one are removed");
    assert_eq!(test.number("SELECT count(*) FROM removed_meters").await, 0);
}

pub async fn a_meter_that_is_put_again_stays_as_it_is(test: TestStore) {
    assert_eq!(put(&test, "m", COUNT).await, PutMeter::Added);
    let id = status(&test, "m").await.unwrap().shown.id;
    assert_eq!(put(&test, "m", COUNT).await, PutMeter::Unchanged);
    let kept = r#"{"aggregation":"count","time":"received_at","retention_days":9}"#;
    assert_eq!(put(&test, "m", kept).await, PutMeter::Unchanged);
    let shown = status(&test, "m").await.unwrap().shown;
    assert_eq!((shown.id, shown.definition.retention_days), (id, Some(9)));
    // A change that is superseded before it is complete leaves nothing behind.
    assert_eq!(put(&test, "m", SUM).await, PutMeter::Changed);
    assert_eq!(put(&test, "m", r#"{"aggregation":"max","value":"/n"}"#).await, PutMeter::Changed);
    assert_eq!(test.number("SELECT count(*) FROM meters").await, 2);
    maintain(&test).await;
    assert_eq!(status(&test, "m").await.unwrap().shown.definition.aggregation.name(), "max");
}

pub async fn of_two_meters_that_are_put_at_once_one_is_added(test: TestStore) {
    for round in 0..5 {
        let name = format!("m{round}");
        let both = tokio::join!(put(&test, &name, COUNT), put(&test, &name, SUM));
        assert!(
            matches!(both, (PutMeter::Added, PutMeter::Changed) | (PutMeter::Changed, PutMeter::Added)),
            "{both:?}"
        );
    }
}

pub async fn a_removed_meter_is_gone_with_its_windows(test: TestStore) {
    put(&test, "m", COUNT).await;
    test.commit(&accepted(noon(), events(0..3))).await;
    maintain(&test).await;
    test.commit(&accepted(noon(), events(3..6))).await;
    assert!(test.store.delete_meter("m").await.unwrap());
    assert!(!test.store.delete_meter("m").await.unwrap());
    assert_eq!(status(&test, "m").await, None);
    maintain(&test).await;
    maintain(&test).await;
    for table in ["meters", "meter_windows", "meter_batches", "removed_meters"] {
        assert_eq!(test.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    // One of the same name begins anew, from what is stored.
    put(&test, "m", COUNT).await;
    maintain(&test).await;
    assert_eq!(at_noon(&test, "m").await, of([("", "6")]));
}

pub async fn there_are_no_more_meters_than_may_be(test: TestStore) {
    for n in 0..MAX_METERS {
        assert_eq!(put(&test, &n.to_string(), COUNT).await, PutMeter::Added);
    }
    assert_eq!(put(&test, "one-more", COUNT).await, PutMeter::TooMany);
    assert_eq!(put(&test, "0", SUM).await, PutMeter::TooMany, "both are counted until the new one is complete");
    assert_eq!(put(&test, "0", COUNT).await, PutMeter::Unchanged);
}

pub async fn retention_waits_for_the_backfill_and_a_later_meter_says_what_is_missing(test: TestStore) {
    let retention = Duration::from_secs(3_600);
    let day = Duration::from_secs(24 * 3_600);
    let removing = Maintenance { receipts_ttl: day, retention: Some(retention), max_duration: Duration::from_secs(10) };
    test.commit(&accepted(noon(), events(0..10))).await;
    put(&test, "early", COUNT).await;
    test.make_stored_events_older(2 * retention).await;
    let removed = test.store.maintain(&removing).await.expect("maintenance");
    assert_eq!((removed.events, test.rows().await), (0, 10), "they are not counted yet");
    maintain(&test).await;
    assert_eq!(test.store.maintain(&removing).await.expect("maintenance").events, 10);
    assert_eq!(at_noon(&test, "early").await, of([("", "10")]), "figures outlive the events");
    test.commit(&accepted(noon(), events(20..23))).await;
    put(&test, "late", COUNT).await;
    maintain(&test).await;
    assert_eq!(at_noon(&test, "late").await, of([("", "3")]));
    let (early, late) = (status(&test, "early").await.unwrap().shown, status(&test, "late").await.unwrap().shown);
    assert_eq!(early.complete_from, None);
    assert!(late.complete_from.is_some(), "{late:?}");
}

pub async fn windows_that_ended_before_the_retention_are_removed_and_no_others(test: TestStore) {
    put(&test, "m", r#"{"aggregation":"count","time":"timestamp","retention_days":1}"#).await;
    let now = Timestamp::now();
    let hours_ago = |hours: i64| Timestamp::from_micros(now.as_micros() - hours * 3_600_000_000).unwrap();
    let sent = [0, 23, 26, 48].map(|hours| Event { timestamp: hours_ago(hours), ..event("a", hours, "1") });
    test.commit(&accepted(now, sent.to_vec())).await;
    maintain(&test).await;
    maintain(&test).await;
    for length in [1, 15, 60] {
        let count = format!("SELECT count(*) FROM meter_windows WHERE length = {length}");
        assert_eq!(test.number(&count).await, 2, "{length}");
    }
    assert_eq!(status(&test, "m").await.unwrap().shown.windows, 2);
}

pub async fn figures_stay_exact_while_batches_are_committed_and_added_up(test: TestStore) {
    put(&test, "count", COUNT).await;
    put(&test, "sum", SUM).await;
    maintain(&test).await;
    let test = Arc::new(test);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let test = Arc::clone(&test);
            tokio::spawn(async move {
                let options = CommitOptions { shard: format!("replica/{writer}"), ..test.options.clone() };
                for number in 0..20_i64 {
                    let events = (number * 5..number * 5 + 10).map(|n| event("t", n, r#"{"n":0.1}"#)).collect();
                    test.commit_until_done(&options, &accepted(noon(), events)).await;
                }
            })
        })
        .collect();
    let mut last = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        maintain(&test).await;
        let count: i64 = at_noon(&test, "count").await.get("").map_or(0, |count| count.parse().unwrap());
        assert!(count >= last && count <= 105, "{count} after {last}");
        last = count;
    }
    for writer in writers {
        writer.await.expect("a writer");
    }
    for _ in 0..2 {
        assert_eq!(at_noon(&test, "count").await, of([("", "105")]));
        assert_eq!(at_noon(&test, "sum").await, of([("t", "10.5")]));
        maintain(&test).await;
    }
}

pub async fn what_is_damaged_is_said_and_nothing_is_lost(test: TestStore) {
    put(&test, "m", COUNT).await;
    test.commit(&accepted(noon(), events(0..3))).await;
    test.run(match test.place {
        Place::Postgres(_) => "UPDATE meter_batches SET content = '\\x01ff'",
        Place::Sqlite(_) => "UPDATE meter_batches SET content = X'01ff'",
    })
    .await;
    let error = test.store.maintain_meters().await.expect_err("a damaged row");
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert_eq!(test.number("SELECT count(*) FROM meter_batches").await, 1);
    // Batches are stored all the same.
    assert!(commit(&*test.store, &test.options, &accepted(noon(), events(5..7))).await.is_ok());
}

pub async fn a_store_with_meters_is_none_for_versions_that_do_not_know_them(test: TestStore) {
    test.commit(&accepted(noon(), events(0..2))).await;
    put(&test, "m", COUNT).await;
    let again = test.open_again(&test.options.keyer).await.expect("this version opens it");
    assert_eq!(again.meters().await.expect("meters").len(), 1);
    match &test.place {
        Place::Postgres(settings) => {
            // What such a version does at the end of each transaction.
            let count = "INSERT INTO counters VALUES ('t', 'old/0', 1, 1, 0, 0)";
            let refused = sqlx::query(count).execute(&mut direct(settings).await).await.unwrap_err().to_string();
            assert!(refused.contains("does not know meters"), "{refused}");
            assert!(test.store.delete_meter("m").await.unwrap());
            sqlx::query(count).execute(&mut direct(settings).await).await.expect("without meters it may");
        }
        Place::Sqlite(_) => {
            // Such a version compares the dedup fields, at most with what follows them where keys lie in partitions.
            let marked =
                "SELECT count(*) FROM settings WHERE name = 'dedup_fields' AND instr(value, 'counts meters') > 0";
            assert_eq!(test.number(marked).await, 1);
            assert!(test.store.delete_meter("m").await.unwrap());
            assert_eq!(test.number(marked).await, 0);
        }
    }
}
