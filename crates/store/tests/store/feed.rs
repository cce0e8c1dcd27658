//! The feed: every event once, in one order, also what is committed late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sluice_auth::Topics;
use sluice_event::{Event, RequestId, Timestamp};
use sluice_store::feed::{Cursor, FeedPage, FeedQuery, Generation, Start};
use sluice_store::series::BatchCounts;
use sluice_store::{EventQuery, Hint, Patterns, Row, StoreError, Transaction};
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::{Place, TestStore, direct};

const WRITERS: u64 = 8;
const BATCHES: u64 = 40;

/// A query from here on.
pub fn from(start: Start) -> FeedQuery {
    FeedQuery { start, limit: 1_000, max_bytes: 1 << 20, ..FeedQuery::default() }
}

pub async fn page(test: &TestStore, query: &FeedQuery) -> FeedPage {
    test.store.feed(query).await.expect("a page of the feed")
}

/// The ids of the events on a page.
pub fn ids(page: &FeedPage) -> Vec<&str> {
    page.events.iter().map(|event| event.event_id.as_str()).collect()
}

/// Begins a transaction and inserts events, and leaves it open.
pub async fn uncommitted(test: &TestStore, events: &[Event<'_>]) -> Result<Box<dyn Transaction>, StoreError> {
    let (mut transaction, _) = test.store.begin(&[]).await?;
    let keyer = &test.options.keyer;
    let mut rows: Vec<_> = (0..)
        .zip(events)
        .map(|(ordinal, event)| Row {
            key: keyer.key_of(&event.topic, &event.event_id, event.source.as_deref()),
            ordinal,
            event,
            received_at: Timestamp::now(),
            request_id: RequestId::random(),
            hint: Hint::New,
        })
        .collect();
    rows.sort_unstable_by_key(|row| row.key);
    transaction.insert_events(&rows).await?;
    Ok(transaction)
}

pub async fn commit(transaction: Box<dyn Transaction>) -> Result<(), StoreError> {
    transaction.commit("replica/0", &BatchCounts::default(), None).await.map(|_| ())
}

/// All events by the list, which does not know the feed: the number and the id, the oldest first.
async fn listed(test: &TestStore) -> Vec<(i64, String)> {
    let (mut rows, mut before) = (Vec::new(), None);
    loop {
        let query = EventQuery { before, limit: 1_000, ..EventQuery::default() };
        let page = test.store.events(&query).await.expect("a page");
        rows.extend(page.events.into_iter().map(|event| (event.seq, event.event_id)));
        before = page.next;
        if before.is_none() {
            rows.reverse();
            return rows;
        }
    }
}

/// Follows the feed until `done`, and then to its end.
async fn follow(test: Arc<TestStore>, done: Arc<AtomicBool>, seed: u64) -> Vec<(i64, String)> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut seen, mut start) = (Vec::new(), Start::Oldest);
    loop {
        let was_done = done.load(Ordering::SeqCst);
        let query = FeedQuery { limit: random.random_range(1..200), ..from(start) };
        let page = match test.store.feed(&query).await {
            Ok(page) => page,
            Err(StoreError::Conflict(_) | StoreError::Unavailable(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(page.repeated_from, None);
        let is_end = page.events.is_empty() && !page.more;
        seen.extend(page.events.into_iter().map(|event| (event.seq, event.event_id)));
        start = Start::After(page.next);
        if is_end && was_done {
            return seen;
        }
    }
}

/// Ends sessions that have a batch open, at random.
async fn kill_sessions(test: Arc<TestStore>, done: Arc<AtomicBool>) {
    let Place::Postgres(settings) = &test.place else { return };
    let mut connection = direct(settings).await;
    while !done.load(Ordering::SeqCst) {
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_locks \
                    WHERE relation = 'receipts'::regclass AND mode = 'RowExclusiveLock' ORDER BY random() LIMIT 1";
        sqlx::raw_sql(kill).execute(&mut connection).await.expect("to end a session");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

async fn write(test: Arc<TestStore>, writer: u64) {
    let mut random = StdRng::seed_from_u64(writer);
    for number in 0..BATCHES {
        let events = events((0..random.random_range(1..30)).map(|n| format!("{writer}/{number}/{n}")));
        let Ok(transaction) = uncommitted(&test, &events).await else { continue };
        if random.random_bool(0.5) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..15))).await;
        }
        match random.random_range(0..10) {
            0 => transaction.rollback().await,
            1 => drop(transaction),
            _ => _ = commit(transaction).await,
        }
    }
}

pub async fn followers_see_every_event_once_and_in_order_while_transactions_are_held_open(test: TestStore) {
    let (test, done) = (Arc::new(test), Arc::new(AtomicBool::new(false)));
    let followers: Vec<_> = (0..2).map(|seed| tokio::spawn(follow(test.clone(), done.clone(), seed))).collect();
    let killer = tokio::spawn(kill_sessions(test.clone(), done.clone()));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(test.clone(), writer));
    }
    writers.join_all().await;
    done.store(true, Ordering::SeqCst);
    killer.await.expect("the killer");
    let rows = listed(&test).await;
    assert!(rows.len() > 500, "{} rows", rows.len());
    for follower in followers {
        let seen = follower.await.expect("the follower");
        assert!(seen == rows, "the feed had {} events, and {} are stored", seen.len(), rows.len());
    }
}

pub async fn filters_select_from_the_feed_across_partitions(test: TestStore) {
    let mut all = Vec::new();
    for round in 0..3 {
        for n in 0..40 {
            let topic = ["orders.eu", "orders.us", "bills"][n % 3];
            let event = event(topic, format!("{round}-{n}"), "{}");
            let event = if n % 2 == 0 { crate::batches::from("shop", event) } else { event };
            all.push((topic, n % 2 == 0, format!("{round}-{n}")));
            test.commit(&batch_of(vec![event])).await;
        }
        test.close_partition().await;
    }
    let orders = Patterns::of(&Topics::Only(["orders.*".parse().expect("a pattern")].into())).expect("patterns");
    let topics = [None, Some("orders.eu"), Some("nothing")];
    for (topic, source, patterns) in topics.iter().flat_map(|topic| {
        [None, Some("shop")]
            .into_iter()
            .flat_map(|source| [None, Some(orders.clone())].map(|patterns| (*topic, source, patterns)))
    }) {
        let expected: Vec<_> = all
            .iter()
            .filter(|(of, from_shop, _)| {
                topic.is_none_or(|topic| topic == *of)
                    && (source.is_none() || *from_shop)
                    && (topic.is_some() || patterns.as_ref().is_none_or(|patterns| patterns.allow(of)))
            })
            .map(|(.., id)| id.as_str())
            .collect();
        for limit in [1, 7, 1_000] {
            let (mut seen, mut start) = (Vec::new(), Start::Oldest);
            loop {
                let query = FeedQuery {
                    topic: topic.map(str::to_owned),
                    source: source.map(str::to_owned),
                    patterns: patterns.clone(),
                    limit,
                    ..from(start)
                };
                let page = page(&test, &query).await;
                seen.extend(page.events.into_iter().map(|event| event.event_id));
                start = Start::After(page.next);
                if !page.more {
                    break;
                }
            }
            assert_eq!(seen, expected, "{topic:?} {source:?} {patterns:?} by {limit}");
            // What does not match is not looked at again.
            let newest = page(&test, &from(Start::Newest)).await.next;
            assert_eq!(start, Start::After(newest), "{topic:?} {source:?} {patterns:?}");
        }
    }
}

pub async fn after_a_loss_a_cursor_goes_on_where_the_generations_part_and_says_so(test: TestStore) {
    for id in ["a", "b", "c"] {
        test.commit(&batch_of(events([id]))).await;
    }
    let all = page(&test, &from(Start::Oldest)).await;
    assert_eq!((ids(&all), all.more, all.repeated_from), (vec!["a", "b", "c"], false, None));
    let at = |generation, seq| Start::After(Cursor { generation, seq });
    // A reader that was shown what was lost, and one that has not come so far.
    let (lost, behind) = (all.next.seq + (1 << 30), all.events[0].seq);
    test.store.begin_generation(Some(7)).await.expect("a generation");
    test.store.begin_generation(Some(7)).await.expect("the same");
    assert_eq!(test.number("SELECT count(*) FROM feed_generations").await, 2);
    for id in ["d", "e"] {
        test.commit(&batch_of(events([id]))).await;
    }
    let next = page(&test, &from(at(all.generation, lost))).await;
    assert_eq!(ids(&next), ["d", "e"]);
    let parted = next.repeated_from.expect("it says so");
    assert!(parted.seq >= all.next.seq && parted.seq < next.events[0].seq, "{parted:?}");
    assert_ne!(next.generation, all.generation);
    assert_eq!(parted.generation, next.generation);
    let next = page(&test, &from(at(all.generation, behind))).await;
    assert_eq!((ids(&next), next.repeated_from.map(|from| from.seq)), (vec!["b", "c", "d", "e"], Some(behind)));
    // From then on nothing is repeated.
    let end = page(&test, &from(Start::After(next.next))).await;
    assert_eq!((ids(&end), end.repeated_from), (vec![], None));
    test.store.begin_generation(None).await.expect("another generation");
    assert_eq!(test.number("SELECT count(*) FROM feed_generations").await, 3);
}

/// A backup was restored that does not know the last generations.
pub async fn a_cursor_of_another_history_begins_anew_and_says_so(test: TestStore) {
    test.commit(&batch_of(events(["a", "b"]))).await;
    let all = page(&test, &from(Start::Oldest)).await;
    let unknown = Cursor { generation: Generation(5), ..all.next };
    let later = Cursor { seq: all.next.seq + (1 << 40), ..all.next };
    for cursor in [unknown, later] {
        if let (Place::Postgres(_), true) = (&test.place, cursor == later) {
            // A replay will begin a generation, and say where to go on.
            let refused = test.store.feed(&from(Start::After(cursor))).await.expect_err("it waits");
            assert!(matches!(refused, StoreError::Behind(_)), "{refused}");
            continue;
        }
        let anew = page(&test, &from(Start::After(cursor))).await;
        assert_eq!(ids(&anew), ["a", "b"]);
        assert_eq!(anew.repeated_from.map(|from| from.seq), Some(0));
    }
}

pub async fn a_cursor_is_the_number_of_an_event_although_later_numbers_were_given(test: TestStore) {
    test.commit(&batch_of(events(["a"]))).await;
    let before = page(&test, &from(Start::Oldest)).await;
    uncommitted(&test, &events(["b"])).await.expect("a transaction").rollback().await;
    for start in [Start::Newest, Start::Oldest, Start::After(before.next)] {
        // The number of the batch that was rolled back may be given again after a crash.
        assert_eq!(page(&test, &from(start)).await.next, before.next);
    }
}
