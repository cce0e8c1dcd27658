//! Tests of the marks of commits, and of the replay of what a store has lost.

use std::time::{Duration, Instant};

use sluice_log::redis::{ReaderSettings, RedisReader, RedisWriter, WriterSettings};
use sluice_log::replay::{CommitMark, Marks, ReplayLog};
use sluice_log::{LogReader, Position};

use crate::backends::settings;
use crate::support::{PATIENCE, RedisServer, done, fill, read, wait_for};

fn mark(worker: &str, number: u64) -> CommitMark {
    CommitMark { worker: worker.to_owned(), number }
}

fn marks(marks: &[(&str, u64)]) -> Marks {
    marks.iter().map(|(worker, number)| ((*worker).to_owned(), *number)).collect()
}

fn reader(server: &RedisServer, name: &str, window: Duration) -> RedisReader {
    RedisReader::new(ReaderSettings { replay_window: window, ..settings(server, name).1 }).unwrap()
}

#[tokio::test]
async fn an_acknowledgement_notes_the_commit_and_a_late_one_lowers_nothing() {
    let server = RedisServer::start().await;
    let (writer, reader) = settings(&server, "a");
    let writer = RedisWriter::new(WriterSettings { streams: 2, ..writer }).unwrap();
    let reader = RedisReader::new(ReaderSettings { streams: 2, ..reader }).unwrap();
    fill(&writer, 0, 2).await;
    fill(&writer, 1, 2).await;
    let all = done(&read(&reader, 4).await);
    let of = |stream: u16| all.iter().filter(|(at, _)| at.stream == stream).copied().collect::<Vec<_>>();
    assert_eq!(reader.acknowledge_commit(&of(0), &mark("a/0", 7)).await.unwrap(), 2);
    assert_eq!(reader.acknowledge_commit(&of(1), &mark("a/0", 6)).await.unwrap(), 2);
    assert_eq!(reader.acknowledge_commit(&of(1), &mark("a/ 1", 3)).await.unwrap(), 0, "nothing is pending any more");
    assert_eq!(reader.marks().await.unwrap().marks, marks(&[("a/0", 7), ("a/ 1", 3)]));
    reader.acknowledge_commit(&of(0), &mark("a/0", 5)).await.unwrap();
    assert_eq!(reader.marks().await.unwrap().marks["a/0"], 7);
}

/// The acknowledgement may come from a process that was killed since, and the store may have lost its commit.
#[tokio::test]
async fn an_acknowledgement_that_arrives_again_leaves_what_was_delivered_again_pending() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let (one, other) = (reader(&server, "a", Duration::ZERO), reader(&server, "b", Duration::ZERO));
    fill(&writer, 0, 2).await;
    let first = done(&read(&one, 2).await);
    assert_eq!(one.acknowledge_commit(&first, &mark("a/0", 3)).await.unwrap(), 2);
    assert!(server.command::<bool>("XGROUP DESTROY test:{0} aggregators").await);
    let again = done(&read(&other, 2).await);
    assert_eq!(again, first);
    for late in [3, 2] {
        assert_eq!(one.acknowledge_commit(&first, &mark("a/0", late)).await.unwrap(), 0, "commit {late}");
    }
    assert_eq!(other.acknowledge_commit(&again, &mark("b/0", 1)).await.unwrap(), 2);
}

#[tokio::test]
async fn a_pending_replay_keeps_what_was_delivered_before_the_loss_and_every_replica_sees_it() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let reader = reader(&server, "a", Duration::ZERO);
    fill(&writer, 0, 5).await;
    let delivered = read(&reader, 3).await;
    reader.acknowledge_commit(&done(&delivered[..2]), &mark("a/0", 2)).await.unwrap();
    assert!(reader.begin_replay(&marks(&[("a/0", 2)]), Some(1_000)).await.unwrap());
    assert!(!reader.begin_replay(&marks(&[("a/0", 9)]), None).await.unwrap(), "it is pending");
    assert_eq!(reader.trim().await.unwrap(), 0, "it was removed before it was stored again");

    let other = self::reader(&server, "b", Duration::ZERO);
    let pending = other.marks().await.unwrap().replay.unwrap();
    assert_eq!((pending.marks.clone(), pending.loss.survived), (marks(&[("a/0", 2)]), Some(1_000)));
    let part = pending.streams[0];
    assert_eq!(part.until, delivered[2].position, "what was not delivered cannot have been stored");
    let first = other.read_again(part.reached, part.until, 2).await.unwrap();
    assert_eq!(first, delivered[..2]);
    let mut saved = part;
    (saved.reached, saved.number) = (first[1].position, 40);
    other.save_replay(&saved).await.unwrap();
    let pending = reader.marks().await.unwrap().replay.unwrap();
    assert_eq!((pending.streams[0].reached, pending.streams[0].number), (first[1].position, 40));
    assert_eq!(reader.read_again(first[1].position, part.until, 9).await.unwrap(), delivered[2..]);
    assert_eq!(reader.backlog().await.unwrap().pending, 1, "a replay acknowledges nothing");

    reader.end_replay(&pending).await.unwrap();
    let ended = other.marks().await.unwrap();
    assert_eq!((ended.replay, ended.loss.map(|loss| loss.survived)), (None, Some(Some(1_000))));
    assert_eq!(reader.trim().await.unwrap(), 2);
}

#[tokio::test]
async fn a_replica_that_comes_late_changes_nothing_in_a_later_replay() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let reader = reader(&server, "a", Duration::ZERO);
    fill(&writer, 0, 2).await;
    let all = read(&reader, 2).await;
    reader.begin_replay(&Marks::new(), None).await.unwrap();
    let former = reader.marks().await.unwrap().replay.unwrap();
    reader.end_replay(&former).await.unwrap();
    // The next one is another one by the millisecond in which it began.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(5) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    reader.begin_replay(&Marks::new(), None).await.unwrap();
    let mut late = former.streams[0];
    late.reached = all[1].position;
    reader.save_replay(&late).await.unwrap();
    reader.end_replay(&former).await.unwrap();
    let pending = reader.marks().await.unwrap().replay.unwrap();
    assert_eq!(pending.streams[0].reached, Position { stream: 0, millis: 0, sequence: 0 });
}

#[tokio::test]
async fn what_was_stored_again_is_retained_for_a_whole_window_because_it_may_be_lost_again() {
    const WINDOW: Duration = Duration::from_secs(2);
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let reader = reader(&server, "a", WINDOW);
    fill(&writer, 0, 3).await;
    let all = read(&reader, 3).await;
    reader.acknowledge(&done(&all)).await.unwrap();
    reader.trim().await.unwrap();
    reader.begin_replay(&Marks::new(), None).await.unwrap();
    tokio::time::sleep(WINDOW + WINDOW / 4).await;
    assert_eq!(reader.trim().await.unwrap(), 0);
    reader.end_replay(&reader.marks().await.unwrap().replay.unwrap()).await.unwrap();
    let ended = Instant::now();
    let removed = wait_for("the window to pass", async || {
        let removed = reader.trim().await.unwrap();
        (removed > 0).then_some(removed)
    });
    assert_eq!(removed.await, 3);
    assert!(ended.elapsed() >= WINDOW, "it was removed {:?} after it was stored again", ended.elapsed());
}

#[tokio::test]
async fn one_replica_at_a_time_has_the_right_to_replay_and_the_next_gets_it_when_that_one_is_killed() {
    let server = RedisServer::start().await;
    let (one, two) = (reader(&server, "a", Duration::ZERO), reader(&server, "a", Duration::ZERO));
    assert!(one.lease_replay(PATIENCE).await.unwrap());
    assert!(one.lease_replay(PATIENCE).await.unwrap(), "it extends its own");
    assert!(!two.lease_replay(PATIENCE).await.unwrap(), "a second process of the same name is another one");
    two.release_replay().await.unwrap();
    assert!(!two.lease_replay(PATIENCE).await.unwrap(), "it gave back what it does not have");
    one.release_replay().await.unwrap();
    assert!(two.lease_replay(Duration::from_millis(50)).await.unwrap());
    wait_for("the right to end", async || one.lease_replay(PATIENCE).await.unwrap().then_some(())).await;
}

#[tokio::test]
async fn marks_are_forgotten_when_they_are_old_and_never_while_a_replay_needs_them() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let reader = reader(&server, "a", Duration::ZERO);
    fill(&writer, 0, 1).await;
    let all = done(&read(&reader, 1).await);
    for worker in ["gone/0", "a/0"] {
        reader.acknowledge_commit(&all, &mark(worker, 1)).await.unwrap();
    }
    let gone = ["gone/0".to_owned()];
    reader.forget_marks(&gone, Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(reader.marks().await.unwrap().marks.len(), 2, "it is young");
    let mut raw = server.raw().await;
    let old = redis::cmd("HSET").arg("test:{0}:marks").arg("gone/0").arg("1 1000").to_owned();
    old.query_async::<u64>(&mut raw).await.unwrap();
    reader.begin_replay(&Marks::new(), None).await.unwrap();
    reader.forget_marks(&gone, Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(reader.marks().await.unwrap().marks.len(), 2, "a replay is pending");
    reader.end_replay(&reader.marks().await.unwrap().replay.unwrap()).await.unwrap();
    reader.forget_marks(&gone, Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(reader.marks().await.unwrap().marks, marks(&[("a/0", 1)]));
}
