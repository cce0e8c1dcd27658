//! Erased events have no content, and stay duplicates; conflicts are kept for a while.

use std::time::Duration;

use sluice_event::Keyer;
use sluice_meter::fold::Length;
use sluice_store::Counts;
use sluice_store::commit::{Batch, commit, replay};
use sluice_store::conflicts::{ConflictLimits, ConflictQuery, StoredConflict};
use sluice_store::erase::Erased;

use crate::batches::*;
use crate::ledger::ledger;
use crate::stores::{Place, TestStore};

async fn erase(test: &TestStore, topic: &str, event_id: &str) -> Erased {
    test.store.erase(topic, event_id, "replica/replay").await.expect("an erasure")
}

async fn conflicts(test: &TestStore) -> Vec<StoredConflict> {
    let query = ConflictQuery { limit: 1_000, ..ConflictQuery::default() };
    test.store.conflicts(&query).await.expect("conflicts").conflicts
}

pub async fn an_erased_event_has_no_content_and_stays_a_duplicate(test: TestStore) {
    let sent = || batch_of(vec![from("a person", event("t", 1, r#"{"name":"secret"}"#)), event("t", 2, "2")]);
    test.commit(&sent()).await;
    assert_eq!(erase(&test, "t", "1").await, Erased { found: true, events: 1, ..Erased::default() });
    let stored = &test.store.event("t", "1", 2).await.unwrap()[0];
    assert_eq!((&*stored.payload, &stored.source, stored.erased, stored.damaged), ("null", &None, true, false));
    assert_eq!(stored.timestamp, at("2026-01-31T12:00:00Z"));
    let other = &test.store.event("t", "2", 2).await.unwrap()[0];
    assert_eq!((&*other.payload, other.erased), ("2", false));

    let counts = test.commit(&sent()).await.counts;
    assert_eq!(counts, Counts { received: 2, duplicates: 2, ..Counts::default() });
    // A process that does not remember what was stored.
    let store = test.open_again(&Keyer::default()).await.unwrap();
    let different = batch_of(vec![event("t", 1, "\"another\"")]);
    let counts = commit(&*store, &test.options, &different).await.unwrap().counts;
    assert_eq!(counts, Counts { received: 1, duplicates: 1, ..Counts::default() }, "nothing is known to differ");
    assert_eq!(test.store.event("t", "1", 1).await.unwrap()[0].payload, "null");

    assert_eq!(erase(&test, "t", "1").await, Erased { found: true, ..Erased::default() }, "it can be repeated");
    assert_eq!(erase(&test, "t", "3").await, Erased::default());
    assert_eq!(erase(&test, "u", "1").await, Erased::default());
}

pub async fn all_events_with_the_topic_and_id_are_erased_whatever_their_source(test: TestStore) {
    let test = test.another("topic,event_id,source".parse().unwrap()).await;
    let sent = || {
        batch_of(vec![
            from("a", event("t", 1, "1")),
            from("b", event("t", 1, "2")),
            event("t", 1, "3"),
            event("u", 1, "4"),
        ])
    };
    test.commit(&sent()).await;
    assert_eq!(erase(&test, "t", "1").await, Erased { found: true, events: 3, ..Erased::default() });
    let stored = test.store.event("t", "1", 10).await.unwrap();
    assert!(stored.len() == 3 && stored.iter().all(|event| event.erased && !event.damaged), "{stored:?}");
    assert_eq!(test.store.event("u", "1", 10).await.unwrap()[0].payload, "4");
    assert_eq!(test.commit(&sent()).await.counts, Counts { received: 4, duplicates: 4, ..Counts::default() });
}

pub async fn an_erased_event_that_comes_back_after_its_row_was_lost_has_no_content(test: TestStore) {
    test.commit(&batch_of(vec![from("s", event("t", 1, "\"secret\"")), event("t", 2, "2")])).await;
    erase(&test, "t", "1").await;
    test.run(&format!("DELETE FROM {}", test.event_table())).await;
    if let Place::Sqlite(_) = test.place
        && !test.in_one_table
    {
        test.run("DELETE FROM event_keys_1").await;
    }
    let store = test.open_again(&Keyer::default()).await.unwrap();
    let sent = || batch_of(vec![from("s", event("t", 1, "\"secret\"")), event("t", 2, "2")]);
    let counts = commit(&*store, &test.options, &sent()).await.unwrap().counts;
    assert_eq!(counts, Counts { received: 2, unique: 2, ..Counts::default() });
    let stored = &store.event("t", "1", 2).await.unwrap()[0];
    assert_eq!((&*stored.payload, &stored.source, stored.erased), ("null", &None, true));
    assert_eq!(store.event("t", "2", 2).await.unwrap()[0].payload, "2");
    let counts = commit(&*store, &test.options, &sent()).await.unwrap().counts;
    assert_eq!(counts, Counts { received: 2, duplicates: 2, ..Counts::default() });
}

pub async fn erasing_removes_an_event_from_dead_letters_and_counts_it_as_discarded(test: TestStore) {
    test.refuse_poison().await;
    test.commit(&batch_of(vec![event("t", 1, "\"poison\""), event("t", 2, "\"poison\"")])).await;
    let entry = letter(vec![event("t", 1, "1"), event("t", 3, "3"), event("u", 1, "4")]);
    test.commit(&Batch { dead_letters: vec![entry], ..Batch::default() }).await;
    let only = letter(vec![event("t", 1, "5")]);
    test.commit(&Batch { dead_letters: vec![only], ..Batch::default() }).await;

    assert_eq!(erase(&test, "t", "1").await, Erased { found: true, dead_letters: 3, ..Erased::default() });
    assert_eq!((ledger(&test, "discarded", "t").await, ledger(&test, "discarded", "").await), (1, 2));
    assert_eq!(test.statistics().await.dead_lettered, 3);
    let letters = test.store.dead_letters(None, 10).await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.content.events).collect::<Vec<_>>(), [2, 1]);
    let counts = replay(&*test.store, &test.options, letters[0].id).await.unwrap().unwrap().counts;
    assert_eq!(counts, Counts { received: 2, unique: 2, ..Counts::default() });
    assert!(test.store.event("t", "1", 1).await.unwrap().is_empty());
}

pub async fn conflicts_are_kept_in_pages_and_erased_with_their_event(test: TestStore) {
    test.commit(&batch_of(vec![event("t", 1, "1"), event("t", 2, "2"), event("u", 1, "1")])).await;
    test.commit(&batch_of(vec![from("s", event("t", 1, "\"a\"")), event("t", 1, "1"), event("u", 1, "\"b\"")])).await;
    test.commit(&batch_of(vec![event("t", 2, "\"c\"")])).await;
    let kept = conflicts(&test).await;
    let shown: Vec<_> = kept.iter().map(|c| (&*c.topic, &*c.event_id, &*c.payload)).collect();
    assert_eq!(shown[0], ("t", "2", "\"c\""));
    assert!(
        shown.len() == 3 && shown.contains(&("t", "1", "\"a\"")) && shown.contains(&("u", "1", "\"b\"")),
        "{shown:?}"
    );
    let first = kept.iter().find(|conflict| conflict.payload == "\"a\"").unwrap();
    assert_eq!((first.source.as_deref(), first.timestamp), (Some("s"), at("2026-01-31T12:00:00Z")));

    let query = ConflictQuery { limit: 2, ..ConflictQuery::default() };
    let page = test.store.conflicts(&query).await.unwrap();
    assert_eq!((page.conflicts.len(), page.next), (2, Some(kept[1].id)));
    let rest = test.store.conflicts(&ConflictQuery { before: page.next, ..query }).await.unwrap();
    assert_eq!((&rest.conflicts[..], rest.next), (&kept[2..], None));
    let query = ConflictQuery { topic: Some("t".into()), event_id: Some("1".into()), limit: 10, ..Default::default() };
    assert_eq!(test.store.conflicts(&query).await.unwrap().conflicts, std::slice::from_ref(first));

    assert_eq!(erase(&test, "t", "1").await, Erased { found: true, events: 1, conflicts: 1, ..Erased::default() });
    test.commit(&batch_of(vec![event("t", 1, "\"d\"")])).await;
    assert_eq!(conflicts(&test).await.len(), 2, "those of an erased event are not kept");
}

pub async fn old_conflicts_are_removed_and_those_beyond_the_bound(test: TestStore) {
    test.commit(&batch_of(vec![event("t", 1, "1")])).await;
    for n in 0..4 {
        test.commit(&batch_of(vec![event("t", 1, &format!("\"{n}{}\"", "x".repeat(1_000)))])).await;
    }
    let limits = ConflictLimits { retention: Duration::from_secs(3_600), bytes: 4_000 };
    test.store.maintain_conflicts(limits).await.unwrap();
    let kept = conflicts(&test).await;
    assert_eq!(kept.iter().map(|conflict| &conflict.payload[1..2]).collect::<Vec<_>>(), ["3", "2"]);
    test.store.maintain_conflicts(ConflictLimits { retention: Duration::ZERO, ..limits }).await.unwrap();
    assert!(conflicts(&test).await.is_empty());
    assert_eq!(test.counts().await.conflicts, 4);
}

pub async fn a_meter_forgets_the_latest_value_of_an_erased_event(test: TestStore) {
    const LATEST: &str = r#"{"aggregation":"latest","value":"/n","group_by":["topic"],"time":"received_at"}"#;
    crate::meters::put(&test, "latest", LATEST).await;
    crate::meters::put(&test, "sum", crate::meters::SUM).await;
    let send = async |seconds, id: u64| {
        let time = at(&format!("2026-01-31T12:00:{seconds:02}Z"));
        test.commit(&crate::meters::accepted(time, vec![event("t", id, &format!("{{\"n\":{id}}}"))])).await;
    };
    send(1, 1).await;
    send(2, 2).await;
    // Windows that are added up already, and a batch that is not.
    crate::meters::maintain(&test).await;
    send(3, 3).await;
    let shown = async || crate::meters::at_noon(&test, "latest").await["t"].clone();
    assert_eq!(shown().await, "3");
    erase(&test, "t", "1").await;
    assert_eq!(shown().await, "3", "it was not the latest");
    erase(&test, "t", "3").await;
    assert_eq!(shown().await, "erased");
    send(4, 4).await;
    assert_eq!(shown().await, "4");
    crate::meters::maintain(&test).await;
    erase(&test, "t", "4").await;
    assert_eq!(shown().await, "erased");
    for length in [Length::Minute, Length::Quarter, Length::Hour] {
        let figures = crate::meters::figures(&test, "latest", length).await;
        assert_eq!(figures.values().collect::<Vec<_>>(), ["erased"], "{length:?}");
    }
    assert_eq!(crate::meters::at_noon(&test, "sum").await["t"], "10", "what was counted stays");
}
