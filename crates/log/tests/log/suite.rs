//! The tests that every log must pass.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use sluice_log::notice::{Notice, NoticeRead, Tallies};
use sluice_log::{Appended, Delivered, LogError};

use crate::backends::Backend;
use crate::support::{self, append, bodies, done, fill, keyed, positions, read, wait_for};

macro_rules! suite {
    ($($name:ident)*) => {
        mod on_redis {
            use crate::backends::{Backend, IDEMPOTENCY_TTL, OnRedis};
            $(#[tokio::test] async fn $name() { super::$name(OnRedis::start(IDEMPOTENCY_TTL).await).await })*
            #[tokio::test]
            async fn a_key_is_forgotten_after_its_time() {
                super::a_key_is_forgotten_after_its_time::<OnRedis>().await
            }
        }
        mod on_cluster {
            use crate::backends::{Backend, IDEMPOTENCY_TTL, OnCluster};
            $(#[tokio::test] async fn $name() { super::$name(OnCluster::start(IDEMPOTENCY_TTL).await).await })*
            #[tokio::test]
            async fn a_key_is_forgotten_after_its_time() {
                super::a_key_is_forgotten_after_its_time::<OnCluster>().await
            }
        }
        mod on_sqlite {
            use crate::backends::{Backend, IDEMPOTENCY_TTL, OnSqlite};
            $(#[tokio::test] async fn $name() { super::$name(OnSqlite::start(IDEMPOTENCY_TTL).await).await })*
            #[tokio::test]
            async fn a_key_is_forgotten_after_its_time() {
                super::a_key_is_forgotten_after_its_time::<OnSqlite>().await
            }
        }
    };
}

suite! {
    an_entry_is_read_as_it_was_appended
    entries_come_in_the_order_in_which_they_were_appended
    an_entry_of_several_megabytes_is_read_as_it_was_appended
    an_entry_is_delivered_once_while_its_consumer_lives
    a_restarted_consumer_gets_all_that_is_unacknowledged_again
    two_readers_at_once_share_no_entry
    a_read_waits_for_the_first_entry
    a_read_that_finds_nothing_ends_with_its_wait
    a_read_that_is_given_up_loses_nothing
    concurrent_appends_are_all_stored
    a_key_reused_with_another_body_writes_nothing
    a_key_reused_within_one_entry_is_found
    a_key_with_the_same_body_is_appended_again
    the_backlog_is_exact_after_repeated_appends_and_repeated_acknowledgements
    the_backlog_tells_what_is_delivered_and_what_is_not
    an_entry_held_for_too_long_is_claimed
    an_entry_whose_claim_is_extended_is_not_claimed
    claims_go_round_all_that_is_pending
    deliveries_are_counted
    trimming_spares_what_is_pending_or_undelivered
    a_consumer_leaves_only_when_nothing_is_pending
    a_consumer_is_listed_with_what_it_holds
    nothing_can_be_appended_to_a_stream_that_is_not_there
    a_notice_is_replaced_by_whoever_knows_it
    tallies_add_up_until_they_are_forgotten
    the_record_of_a_key_says_whether_its_request_was_appended
    it_answers_a_ping
}

async fn a_notice_is_replaced_by_whoever_knows_it(log: impl Backend) {
    let (first, second) = (Notice::new("first"), Notice::new(vec![0, 255, 10]));
    assert!(log.writer().has_notices());
    assert_eq!(log.writer().notice(None).await.unwrap(), NoticeRead::Absent);
    assert_eq!(log.writer().notice(Some(&first.tag)).await.unwrap(), NoticeRead::Absent);
    assert_eq!(log.reader().notice_tag().await.unwrap(), None);
    assert!(!log.reader().replace_notice(&first, Some("other")).await.unwrap());
    assert!(log.reader().replace_notice(&first, None).await.unwrap());
    assert!(!log.reader().replace_notice(&second, None).await.unwrap());
    assert_eq!(log.writer().notice(None).await.unwrap(), NoticeRead::Changed(first.clone()));
    assert_eq!(log.writer().notice(Some(&first.tag)).await.unwrap(), NoticeRead::Unchanged);
    assert!(log.reader().replace_notice(&second, Some(&first.tag)).await.unwrap());
    assert_eq!(log.reader().notice_tag().await.unwrap(), Some(second.tag.clone()));
    assert_eq!(log.writer().notice(Some(&first.tag)).await.unwrap(), NoticeRead::Changed(second));
}

async fn tallies_add_up_until_they_are_forgotten(log: impl Backend) {
    let tallies = |numbers: &[(&str, u64)]| -> Tallies {
        numbers.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    };
    assert_eq!(log.reader().tallies().await.unwrap(), Tallies::new());
    log.writer().add_to_tallies(&tallies(&[("1 a", 2), ("1 b \u{fc}", 3)])).await.unwrap();
    log.writer().add_to_tallies(&tallies(&[("1 a", 40)])).await.unwrap();
    assert_eq!(log.reader().tallies().await.unwrap(), tallies(&[("1 a", 42), ("1 b \u{fc}", 3)]));
    log.reader().forget_tallies(&["1 a".to_owned(), "none".to_owned()]).await.unwrap();
    log.reader().forget_tallies(&[]).await.unwrap();
    assert_eq!(log.reader().tallies().await.unwrap(), tallies(&[("1 b \u{fc}", 3)]));
}

async fn the_record_of_a_key_says_whether_its_request_was_appended(log: impl Backend) {
    let record = |key, body| keyed(&[(key, body)]).keyed[0];
    assert!(!log.writer().is_recorded(0, record(1, 1)).await.unwrap());
    log.writer().append(&keyed(&[(1, 1)])).await.unwrap();
    assert!(log.writer().is_recorded(0, record(1, 1)).await.unwrap());
    assert!(!log.writer().is_recorded(0, record(1, 2)).await.unwrap(), "another body");
    assert!(!log.writer().is_recorded(0, record(2, 1)).await.unwrap(), "another key");
}

async fn an_entry_is_read_as_it_was_appended(log: impl Backend) {
    let append = append(7);
    assert_eq!(log.writer().append(&append).await.unwrap(), Appended::Stored { backlog: Some(7) });
    let read = read(log.reader(), 1).await;
    assert_eq!(bodies(&read), [append.entry.body]);
    assert_eq!(read[0].events, 7);
    assert_eq!(read[0].position.stream, 0);
}

async fn entries_come_in_the_order_in_which_they_were_appended(log: impl Backend) {
    let appended = fill(log.writer(), 0, 50).await;
    let read = read(log.reader(), 50).await;
    assert_eq!(bodies(&read), appended);
    assert!(positions(&read).is_sorted());
}

async fn an_entry_of_several_megabytes_is_read_as_it_was_appended(log: impl Backend) {
    let mut append = append(1);
    append.entry = support::entry(1, 9 << 20);
    log.writer().append(&append).await.unwrap();
    assert!(read(log.reader(), 1).await[0].body == append.entry.body);
}

async fn an_entry_is_delivered_once_while_its_consumer_lives(log: impl Backend) {
    fill(log.writer(), 0, 5).await;
    let read = read(log.reader(), 5).await;
    assert_eq!(positions(&read).into_iter().collect::<HashSet<_>>().len(), 5);
    assert_eq!(log.reader().read_new(10, Duration::from_millis(50)).await.unwrap(), []);
}

async fn a_restarted_consumer_gets_all_that_is_unacknowledged_again(log: impl Backend) {
    fill(log.writer(), 0, 10).await;
    let before = read(log.reader(), 10).await;
    assert_eq!(log.reader().acknowledge(&done(&before[..4])).await.unwrap(), 4);
    let later = fill(log.writer(), 0, 2).await;

    let log = log.restart().await;
    let again = everything(&log).await;
    let expected: Vec<_> = bodies(&before[4..]).into_iter().chain(later).collect();
    assert_eq!(bodies(&again), expected);
    assert_eq!(log.reader().acknowledge(&done(&again)).await.unwrap(), 8);
    assert_eq!(log.reader().backlog().await.unwrap().events, Some(0));

    let log = log.restart().await;
    assert_eq!(everything(&log).await, []);
}

/// Returns what a consumer reads at its start: its own pending entries, page by page, then new ones.
async fn everything(log: &impl Backend) -> Vec<Delivered> {
    let mut read = Vec::new();
    loop {
        let after = read.last().map(|entry: &Delivered| entry.position);
        let page = log.reader().read_own_pending(after, 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    loop {
        let page = log.reader().read_new(3, Duration::ZERO).await.unwrap();
        if page.is_empty() {
            return read;
        }
        read.extend(page);
    }
}

async fn two_readers_at_once_share_no_entry(log: impl Backend) {
    fill(log.writer(), 0, 60).await;
    let (some, others) = futures::join!(half(&log), half(&log));
    let all: HashSet<_> = positions(&some).into_iter().chain(positions(&others)).collect();
    assert_eq!((some.len() + others.len(), all.len()), (60, 60));
}

/// Reads small pages until nothing is left.
async fn half(log: &impl Backend) -> Vec<Delivered> {
    let mut read = Vec::new();
    loop {
        let page = log.reader().read_new(4, Duration::from_millis(100)).await.unwrap();
        if page.is_empty() {
            return read;
        }
        read.extend(page);
    }
}

async fn a_read_waits_for_the_first_entry(log: impl Backend) {
    let started = Instant::now();
    // Longer than half a second, the default timeout of the Redis client library for a reply.
    let appending = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        log.writer().append(&append(1)).await.unwrap();
    };
    let (read, ()) = futures::join!(log.reader().read_new(10, Duration::from_secs(15)), appending);
    assert_eq!(read.unwrap().len(), 1);
    assert!(started.elapsed() < Duration::from_secs(10), "the read took {:?}", started.elapsed());
}

async fn a_read_that_finds_nothing_ends_with_its_wait(log: impl Backend) {
    assert_eq!(log.reader().read_new(10, Duration::ZERO).await.unwrap(), []);
    let started = Instant::now();
    assert_eq!(log.reader().read_new(10, Duration::from_millis(700)).await.unwrap(), []);
    assert!(started.elapsed() >= Duration::from_millis(690), "the read took {:?}", started.elapsed());
}

async fn a_read_that_is_given_up_loses_nothing(log: impl Backend) {
    for _ in 0..5 {
        let reading = log.reader().read_new(10, Duration::from_secs(10));
        assert!(tokio::time::timeout(Duration::from_millis(30), reading).await.is_err());
    }
    let appended = fill(log.writer(), 0, 3).await;
    let started = Instant::now();
    let mut found = Vec::new();
    while found.len() < 3 {
        assert!(started.elapsed() < support::PATIENCE, "only {} entries were read", found.len());
        found.extend(log.reader().read_new(10, Duration::from_millis(100)).await.unwrap());
        // Entries that were delivered to a cancelled read are claimed.
        found.extend(log.reader().claim(Duration::from_secs(1), 10).await.unwrap().entries);
    }
    found.sort_by_key(|entry| entry.position);
    assert_eq!(bodies(&found), appended);
}

async fn concurrent_appends_are_all_stored(log: impl Backend) {
    let appends: Vec<_> = (0..200).map(|_| append(3)).collect();
    let answers = futures::future::join_all(appends.iter().map(|append| log.writer().append(append))).await;
    for answer in answers {
        assert!(matches!(answer.unwrap(), Appended::Stored { backlog: Some(3..=600) }));
    }
    let found: HashSet<_> = bodies(&read(log.reader(), 200).await).into_iter().collect();
    assert_eq!(found, appends.into_iter().map(|append| append.entry.body).collect());
    assert_eq!(log.reader().backlog().await.unwrap().events, Some(600));
}

async fn a_key_reused_with_another_body_writes_nothing(log: impl Backend) {
    let [used, fresh, body, other] = [1, 2, 3, 4];
    log.writer().append(&keyed(&[(used, body)])).await.unwrap();

    let reusing = keyed(&[(fresh, body), (used, other)]);
    assert_eq!(log.writer().append(&reusing).await.unwrap(), Appended::KeyReused(vec![1]));
    assert_eq!(log.reader().backlog().await.unwrap().events, Some(1));
    assert_eq!(read(log.reader(), 1).await.len(), 1);
    assert_eq!(log.reader().read_new(10, Duration::ZERO).await.unwrap(), []);

    // Not even the fresh key was recorded: it can be used with another body.
    let stored = log.writer().append(&keyed(&[(fresh, other)])).await.unwrap();
    assert_eq!(stored, Appended::Stored { backlog: Some(2) });
}

async fn a_key_reused_within_one_entry_is_found(log: impl Backend) {
    let [key, body, other] = [1, 2, 3];
    let reusing = keyed(&[(key, body), (key, body), (key, other), (4, other)]);
    assert_eq!(log.writer().append(&reusing).await.unwrap(), Appended::KeyReused(vec![2]));
    assert_eq!(log.reader().backlog().await.unwrap().events, Some(0));
}

async fn a_key_with_the_same_body_is_appended_again(log: impl Backend) {
    let pair = (1, 2);
    let append = keyed(&[pair]);
    for backlog in 1..=3 {
        assert_eq!(log.writer().append(&append).await.unwrap(), Appended::Stored { backlog: Some(backlog) });
    }
    assert_eq!(read(log.reader(), 3).await.len(), 3);
}

async fn a_key_is_forgotten_after_its_time<B: Backend>() {
    let log = B::start(Duration::from_millis(1500)).await;
    let [key, body, other] = [1, 2, 3];
    log.writer().append(&keyed(&[(key, body)])).await.unwrap();
    let reusing = keyed(&[(key, other)]);
    assert_eq!(log.writer().append(&reusing).await.unwrap(), Appended::KeyReused(vec![0]));
    wait_for("the key to expire", async || {
        log.reader().trim().await.unwrap();
        matches!(log.writer().append(&reusing).await.unwrap(), Appended::Stored { .. }).then_some(())
    })
    .await;
}

async fn the_backlog_is_exact_after_repeated_appends_and_repeated_acknowledgements(log: impl Backend) {
    let append = append(5);
    for times in 1..=3 {
        assert_eq!(log.writer().append(&append).await.unwrap(), Appended::Stored { backlog: Some(5 * times) });
    }
    let read = read(log.reader(), 3).await;
    assert_eq!(log.reader().acknowledge(&done(&read[..1])).await.unwrap(), 1);
    assert_eq!(log.reader().acknowledge(&done(&read[..2])).await.unwrap(), 1);
    assert_eq!(log.reader().acknowledge(&done(&read[..2])).await.unwrap(), 0);
    assert_eq!(log.reader().backlog().await.unwrap().events, Some(5));
    assert_eq!(log.writer().pressure().await.unwrap().backlog, Some(5));
    let twice = [done(&read), done(&read)].concat();
    assert_eq!(log.reader().acknowledge(&twice).await.unwrap(), 1);
    assert_eq!(log.writer().pressure().await.unwrap().backlog, Some(0));
    assert_eq!(log.reader().acknowledge(&[]).await.unwrap(), 0);
}

async fn the_backlog_tells_what_is_delivered_and_what_is_not(log: impl Backend) {
    let empty = log.reader().backlog().await.unwrap();
    assert_eq!((empty.events, empty.lag, empty.pending, empty.oldest), (Some(0), Some(0), 0, None));
    fill(log.writer(), 0, 10).await;
    let read = read(log.reader(), 4).await;
    log.reader().acknowledge(&done(&read[..1])).await.unwrap();
    let backlog = log.reader().backlog().await.unwrap();
    assert_eq!((backlog.events, backlog.lag, backlog.pending), (Some(9), Some(6), 3));
    assert!(backlog.oldest.unwrap() < support::PATIENCE);
}

async fn an_entry_held_for_too_long_is_claimed(log: impl Backend) {
    fill(log.writer(), 0, 3).await;
    let read = read(log.reader(), 3).await;
    assert_eq!(log.reader().claim(Duration::from_secs(60), 10).await.unwrap().entries, []);
    log.reader().acknowledge(&done(&read[..1])).await.unwrap();
    let claimed = wait_for("the claim", async || {
        let claimed = log.reader().claim(Duration::from_millis(100), 10).await.unwrap();
        (!claimed.entries.is_empty()).then_some(claimed)
    })
    .await;
    assert_eq!(claimed.entries, read[1..]);
    assert_eq!(claimed.lost, []);
    assert!(claimed.complete);
}

async fn an_entry_whose_claim_is_extended_is_not_claimed(log: impl Backend) {
    const IDLE: Duration = Duration::from_millis(800);
    fill(log.writer(), 0, 2).await;
    let read = read(log.reader(), 2).await;
    let started = Instant::now();
    let claimed = loop {
        assert!(started.elapsed() < support::PATIENCE, "the entry whose claim was not extended was never claimed");
        log.reader().extend_claim(&positions(&read[..1])).await.unwrap();
        let claimed = log.reader().claim(IDLE, 10).await.unwrap().entries;
        if !claimed.is_empty() {
            break claimed;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(claimed, read[1..]);
    log.reader().extend_claim(&[]).await.unwrap();
}

async fn claims_go_round_all_that_is_pending(log: impl Backend) {
    fill(log.writer(), 0, 25).await;
    let read = read(log.reader(), 25).await;
    let (mut claimed, mut calls) = (Vec::new(), 0);
    loop {
        let step = log.reader().claim(Duration::ZERO, 10).await.unwrap();
        claimed.extend(step.entries);
        calls += 1;
        if step.complete {
            break;
        }
        assert!(calls < 50, "the round does not end");
    }
    assert_eq!(claimed, read, "each entry is claimed once in a round");
    assert!(calls >= 3);
}

async fn deliveries_are_counted(log: impl Backend) {
    fill(log.writer(), 0, 2).await;
    let read = read(log.reader(), 2).await;
    assert_eq!(log.reader().deliveries(&positions(&read)).await.unwrap(), [1, 1]);
    log.reader().claim(Duration::ZERO, 1).await.unwrap();
    log.reader().extend_claim(&positions(&read)).await.unwrap();
    assert_eq!(
        log.reader().deliveries(&positions(&read)).await.unwrap(),
        [2, 1],
        "extending a claim is not a delivery"
    );
    log.reader().acknowledge(&done(&read[..1])).await.unwrap();
    assert_eq!(log.reader().deliveries(&positions(&read)).await.unwrap(), [0, 1]);
    assert_eq!(log.reader().deliveries(&[]).await.unwrap(), [0u64; 0]);
}

async fn trimming_spares_what_is_pending_or_undelivered(log: impl Backend) {
    fill(log.writer(), 0, 10).await;
    let read = read(log.reader(), 6).await;
    log.reader().acknowledge(&done(&read[..2])).await.unwrap();
    log.reader().acknowledge(&done(&read[3..5])).await.unwrap();
    log.reader().trim().await.unwrap();
    let log = log.restart().await;
    let left = everything(&log).await;
    assert_eq!(left[..2], [read[2].clone(), read[5].clone()]);
    assert_eq!(left.len(), 6);
    log.reader().acknowledge(&done(&left)).await.unwrap();
    log.reader().trim().await.unwrap();
    assert_eq!(log.reader().backlog().await.unwrap().oldest, None);
}

async fn a_consumer_leaves_only_when_nothing_is_pending(log: impl Backend) {
    fill(log.writer(), 0, 1).await;
    let read = read(log.reader(), 1).await;
    assert!(!log.reader().leave().await.unwrap());
    log.reader().acknowledge(&done(&read)).await.unwrap();
    assert!(log.reader().leave().await.unwrap());
}

async fn a_consumer_is_listed_with_what_it_holds(log: impl Backend) {
    fill(log.writer(), 0, 3).await;
    read(log.reader(), 3).await;
    let consumers = log.reader().consumers().await.unwrap();
    assert_eq!(consumers.len(), 1);
    assert_eq!(consumers[0].pending, 3);
    assert!(consumers[0].idle < support::PATIENCE);
    assert_eq!(log.reader().remove_departed(Duration::ZERO).await.unwrap(), [""; 0], "a consumer never removes itself");
}

async fn nothing_can_be_appended_to_a_stream_that_is_not_there(log: impl Backend) {
    let refused = log.writer().append(&support::append_to(log.writer().streams(), 1)).await;
    assert!(matches!(refused, Err(LogError::Failed(_))), "{refused:?}");
}

async fn it_answers_a_ping(log: impl Backend) {
    log.reader().ping().await.unwrap();
}
