//! What a subject that is bounded by topics gets: exactly what [`TopicPattern::matches`] says, on both databases.

use std::collections::BTreeSet;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sluice_auth::{TopicPattern, Topics};
use sluice_event::Event;
use sluice_store::commit::Batch;
use sluice_store::inspect::DeadLetterQuery;
use sluice_store::{Counts, EventQuery, Patterns, Statistics, StoredEvent, TopicSelection};

use crate::batches::*;
use crate::stores::TestStore;

fn patterns<S: AsRef<str>>(texts: &[S]) -> Patterns {
    let patterns = texts.iter().map(|text| text.as_ref().parse::<TopicPattern>().expect("a pattern"));
    Patterns::of(&Topics::Only(patterns.collect())).expect("bounded")
}

async fn listed(test: &TestStore, patterns: &Patterns, limit: u32) -> EventQuery {
    EventQuery { topics: test.store.select_topics(patterns).await.unwrap(), limit, ..EventQuery::default() }
}

/// Reads all pages. Returns the topic and the id of each event.
async fn all(test: &TestStore, mut query: EventQuery) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    loop {
        let page = test.store.events(&query).await.unwrap();
        assert!(page.events.len() <= query.limit as usize);
        seen.extend(page.events.into_iter().map(|StoredEvent { topic, event_id, .. }| (topic, event_id)));
        query.before = page.next;
        if page.next.is_none() {
            return seen;
        }
    }
}

async fn all_topics(test: &TestStore, patterns: &Patterns, limit: u32) -> Vec<(String, Counts)> {
    let (mut after, mut listed) = (None::<String>, Vec::new());
    loop {
        let page = test.store.topics_of(patterns, after.as_deref(), limit).await.unwrap();
        assert!(page.topics.len() <= limit as usize);
        listed.extend(page.topics);
        after = page.next;
        if after.is_none() {
            return listed;
        }
    }
}

/// Topics in which a text may have a meaning for `LIKE` or `GLOB`, or is compared in another way than elsewhere.
const TOPICS: [&str; 32] = [
    "",
    "a",
    "A",
    "ab",
    "aB",
    "abc",
    "a.b",
    "a.bc",
    "b",
    "ba",
    "*",
    "a*",
    "a%",
    "a_",
    "%",
    "_",
    "\\",
    "a\\",
    "a\\b",
    "[a]",
    "[",
    "a]",
    "?",
    "a?",
    "ä",
    "Ä",
    "äa",
    "a😀",
    "\u{fffd}",
    "\u{fffe}",
    "a\u{ffff}",
    "a\"b'\n",
];

pub async fn what_matches_is_what_the_patterns_say(test: TestStore) {
    test.refuse_poison().await;
    let mut sent = Vec::new();
    for (number, topic) in TOPICS.iter().enumerate() {
        sent.push(event(topic, "good", "1"));
        sent.extend((0..=number).map(|_| event(topic, "again", "2")));
        sent.push(event(topic, "bad", "\"poison\""));
    }
    test.commit(&batch_of(sent)).await;
    let everything = test.statistics().await;

    let mut runner = TestRunner::deterministic();
    let strategy = proptest::collection::vec("[abA*%_.\\\\\\[\\]?ä😀\u{fffd}\u{fffe}\"\0]{1,4}", 0..4);
    let fixed = [vec!["*".to_owned()], vec!["**".to_owned()], vec!["a*".to_owned()], vec!["\u{fffd}*".to_owned()]];
    let random = (0..150).map(|_| strategy.new_tree(&mut runner).expect("patterns").current());
    for texts in fixed.into_iter().chain(random) {
        let parsed: Vec<TopicPattern> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let matches = |topic: &str| parsed.iter().any(|pattern| pattern.matches(topic));
        let expected: BTreeSet<_> = TOPICS.into_iter().filter(|topic| matches(topic)).collect();
        let patterns = patterns(&texts);

        let events = all(&test, listed(&test, &patterns, 7).await).await;
        let of_events: BTreeSet<_> = events.iter().map(|(topic, _)| &**topic).collect();
        assert_eq!((of_events, events.len()), (expected.clone(), 2 * expected.len()), "events of {texts:?}");

        let topics = all_topics(&test, &patterns, 3).await;
        let names: BTreeSet<_> = topics.iter().map(|(topic, _)| &**topic).collect();
        assert_eq!((names, topics.len()), (expected.clone(), expected.len()), "topics of {texts:?}");

        let statistics = test.store.statistics_of(&patterns, 1_000).await.unwrap();
        let theirs = everything.topics.iter().filter(|(topic, _)| matches(topic));
        let theirs = theirs.map(|(topic, counts)| (topic.clone(), *counts)).collect();
        assert_eq!(statistics.topics, theirs, "statistics of {texts:?}");
        let sum = |number: fn(&Counts) -> u64| theirs.values().map(number).sum::<u64>();
        let total = Counts {
            received: sum(|counts| counts.received),
            unique: sum(|counts| counts.unique),
            duplicates: sum(|counts| counts.duplicates),
            conflicts: sum(|counts| counts.conflicts),
        };
        let expected_len = expected.len() as u64;
        let numbers = (statistics.total, statistics.topic_count, statistics.dead_lettered);
        assert_eq!(numbers, (total, expected_len, expected_len), "totals of {texts:?}");

        let query = DeadLetterQuery { patterns: Some(patterns), limit: 100, ..DeadLetterQuery::default() };
        let page = test.store.dead_letter_page(&query).await.unwrap();
        let letters = page.dead_letters.iter().map(|letter| letter.content.event.as_ref().unwrap().0.as_str());
        assert_eq!(letters.collect::<BTreeSet<_>>(), expected, "dead letters of {texts:?}");
        let ids = test.store.dead_letter_ids(&query).await.unwrap();
        assert_eq!(ids.dead_letters.len(), expected.len(), "ids of dead letters of {texts:?}");
    }
}

pub async fn the_events_of_several_topics_are_merged_in_the_order_of_arrival(test: TestStore) {
    // One topic is frequent, some are rare, one ended early, and most events are of others.
    let topic = |n: u32| match n {
        n if n < 20 => "mine.old".to_owned(),
        n if n % 10 == 0 => "mine.frequent".to_owned(),
        n if n % 97 == 0 => format!("mine.{}", n % 5),
        n => format!("other.{}", n % 3),
    };
    for first in (0..3_000).step_by(500) {
        let sent = (first..first + 500).map(|n| {
            let event = event(&topic(n), n, "0");
            if n % 3 == 0 { from("x", event) } else { event }
        });
        test.commit(&batch_of(sent.collect())).await;
    }
    let theirs = |filter: &dyn Fn(u32) -> bool| {
        let mine = (0..3_000).rev().filter(|&n| topic(n).starts_with("mine.") && filter(n));
        mine.map(|n| (topic(n), n.to_string())).collect::<Vec<_>>()
    };
    let mine = patterns(&["mine.*"]);
    for limit in [1, 7, 64, 500, 10_000] {
        assert_eq!(all(&test, listed(&test, &mine, limit).await).await, theirs(&|_| true), "{limit}");
    }
    let query = EventQuery { source: Some("x".into()), ..listed(&test, &mine, 9).await };
    assert_eq!(all(&test, query).await, theirs(&|n| n % 3 == 0));
    let names = patterns(&["mine.old", "mine.2", "nothing"]);
    let expected = (0..3_000).rev().filter(|&n| ["mine.old", "mine.2"].contains(&&*topic(n)));
    assert_eq!(
        all(&test, listed(&test, &names, 10).await).await,
        expected.map(|n| (topic(n), n.to_string())).collect::<Vec<_>>()
    );
    assert_eq!(all(&test, listed(&test, &patterns::<&str>(&[]), 10).await).await, []);
}

pub async fn more_topics_than_can_be_merged_are_found_by_looking_at_all_rows(test: TestStore) {
    const MINE: usize = 10_001;
    let sent: Vec<Event<'_>> = (0..MINE)
        .flat_map(|n| [event(&format!("mine.{n}"), 1, "0"), event(&format!("other.{}", n % 10), n, "0")])
        .collect();
    test.commit(&batch_of(sent)).await;
    // SQLite does not tell these two characters apart.
    test.commit(&batch_of((0..200).map(|n| event("\u{fffe}", n, "0")).collect())).await;
    let patterns = patterns(&["mine.*", "\u{fffd}"]);
    let query = listed(&test, &patterns, 1_000).await;
    assert_eq!(query.topics, TopicSelection::Matching(patterns));
    let expected: Vec<_> = (0..MINE).rev().map(|n| (format!("mine.{n}"), "1".to_owned())).collect();
    assert!(all(&test, query.clone()).await == expected, "each once, in the order of arrival");
    let nothing = EventQuery { source: Some("nobody".into()), ..query };
    assert_eq!(all(&test, nothing).await, []);
}

pub async fn bounded_statistics_list_the_largest_topics_beside_exact_totals(test: TestStore) {
    let topic = |number: u32| event(&format!("topic-{number:02}"), 1, "0");
    // Topic 20 arrives twenty times, topic 19 nineteen times, and so on.
    let sent = (1..=20).flat_map(|number| (0..number).map(move |_| topic(number))).collect();
    test.commit(&batch_of(sent)).await;
    let patterns = patterns(&["topic-1*"]);
    let statistics = test.store.statistics_of(&patterns, 3).await.unwrap();
    assert_eq!(statistics.topics.keys().collect::<Vec<_>>(), ["topic-17", "topic-18", "topic-19"]);
    assert_eq!(statistics.total, Counts { received: 145, unique: 10, duplicates: 135, conflicts: 0 });
    assert_eq!(statistics.topic_count, 10);
    let without_topics = test.store.statistics_of(&patterns, 0).await.unwrap();
    assert_eq!(without_topics, Statistics { topics: Default::default(), ..statistics });
}

pub async fn a_whole_entry_is_in_no_bounded_list_of_dead_letters(test: TestStore) {
    test.refuse_poison().await;
    test.commit(&batch_of((0..5).map(|n| event(["mine", "other"][n % 2], n, "\"poison\"")).collect())).await;
    test.commit(&Batch { dead_letters: vec![letter(vec![event("mine", 9, "0")])], ..Batch::default() }).await;
    let whole = test.store.dead_letters(None, 1).await.unwrap()[0].id;
    let all = DeadLetterQuery { code: None, limit: 10, ..DeadLetterQuery::default() };
    assert_eq!(test.store.dead_letter_page(&all).await.unwrap().dead_letters.len(), 6);
    assert_eq!(test.store.dead_letter_topic(whole).await.unwrap(), None);
    assert_eq!(test.store.dead_letter_topic(-1).await.unwrap(), None);

    let mine = DeadLetterQuery { patterns: Some(patterns(&["mine", "*ne"])), limit: 2, ..all };
    let first = test.store.dead_letter_page(&mine).await.unwrap();
    let second = test.store.dead_letter_page(&DeadLetterQuery { before: first.next, ..mine.clone() }).await.unwrap();
    let letters = [first.dead_letters, second.dead_letters];
    assert_eq!((letters.each_ref().map(Vec::len), second.next), ([2, 1], None));
    for letter in letters.iter().flatten() {
        assert_eq!(letter.content.event.as_ref().unwrap().0, "mine");
        assert_eq!(test.store.dead_letter_topic(letter.id).await.unwrap().as_deref(), Some("mine"));
    }
    let first = test.store.dead_letter_ids(&mine).await.unwrap();
    let second = test.store.dead_letter_ids(&DeadLetterQuery { before: first.next, ..mine.clone() }).await.unwrap();
    let ids: Vec<_> = first.dead_letters.iter().chain(&second.dead_letters).map(|letter| letter.id).collect();
    assert_eq!((ids, second.next), (letters.iter().flatten().map(|letter| letter.id).collect(), None));
    let killed = DeadLetterQuery { code: Some("kills_its_reader".into()), ..mine };
    assert_eq!(test.store.dead_letter_ids(&killed).await.unwrap().dead_letters, []);
}
