//! Tests of trimming: which entries it removes, and which it must never remove.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sluice_log::redis::{ReaderSettings, RedisReader, RedisWriter};
use sluice_log::replay::ReplayLog;
use sluice_log::{Append, LogReader, LogWriter, Position};

use crate::backends::settings;
use crate::support::{RedisServer, append, done, entry, fill, positions, read};

const HOUR: Duration = Duration::from_secs(3600);

fn reader(server: &RedisServer, name: &str, window: Duration, bytes: u64) -> RedisReader {
    let settings = settings(server, name).1;
    RedisReader::new(ReaderSettings { replay_window: window, replay_window_bytes: bytes, ..settings }).unwrap()
}

async fn in_stream(server: &RedisServer) -> BTreeSet<Position> {
    let entries: Vec<(String, Vec<Vec<u8>>)> = server.command("XRANGE test:{0} - +").await;
    let parse = |id: &str| {
        let (millis, sequence) = id.split_once('-').unwrap();
        Position { stream: 0, millis: millis.parse().unwrap(), sequence: sequence.parse().unwrap() }
    };
    entries.iter().map(|(id, _)| parse(id)).collect()
}

/// A model of the group: the state that is expected after the same steps.
#[derive(Default)]
struct Model {
    backlog: u64,
    pending: BTreeMap<Position, u64>,
    acknowledged: BTreeSet<Position>,
    undelivered: u64,
}

#[tokio::test]
async fn trimming_never_takes_what_is_pending_or_undelivered_whatever_happened_before() {
    let server = RedisServer::start().await;
    for seed in 0..12 {
        let _: String = server.command("FLUSHALL").await;
        interleave(&server, seed).await;
    }
}

/// Runs random steps of two consumers, and compares the stream with the model after each step.
async fn interleave(server: &RedisServer, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let writer = RedisWriter::new(settings(server, "").0).unwrap();
    // Half of the seeds have a replay window, with which more entries may stay in the stream, never fewer.
    let window = if seed.is_multiple_of(2) { Duration::ZERO } else { Duration::from_millis(5) };
    let consumers = ["a", "b"].map(|name| reader(server, name, window, 1 << 30));
    let (mut model, mut lost) = (Model::default(), false);
    for step in 0..150 {
        let consumer = &consumers[random.random_range(0..2)];
        match random.random_range(0..11) {
            0..=3 => {
                let events = random.random_range(1..9);
                writer.append(&append(events)).await.unwrap();
                model.backlog += events;
                model.undelivered += 1;
            }
            4..=5 => {
                let read = consumer.read_new(random.random_range(1..4), Duration::ZERO).await.unwrap();
                model.undelivered -= read.len() as u64;
                model.pending.extend(done(&read));
            }
            6 => {
                let claimed = consumer.claim(Duration::ZERO, 3).await.unwrap();
                assert_eq!(claimed.lost, [], "seed {seed}, step {step}");
                assert!(claimed.entries.iter().all(|entry| model.pending.contains_key(&entry.position)));
            }
            7..=8 => {
                let some: Vec<_> =
                    model.pending.iter().filter(|_| random.random_bool(0.5)).map(|(at, n)| (*at, *n)).collect();
                assert_eq!(consumer.acknowledge(&some).await.unwrap(), some.len() as u64);
                for (position, events) in some {
                    model.backlog -= events;
                    model.pending.remove(&position);
                    model.acknowledged.insert(position);
                }
            }
            9 => {
                consumer.trim().await.unwrap();
                lost = false;
            }
            _ => lost |= server.command::<u64>("DEL test:{0}:counts").await > 0,
        }
        let here = format!("seed {seed}, step {step}");
        let stream = in_stream(server).await;
        assert!(model.pending.keys().all(|position| stream.contains(position)), "{here}: a pending entry was removed");
        let kept = stream.iter().filter(|at| model.acknowledged.contains(at)).count();
        assert_eq!(stream.len(), kept + model.pending.len() + model.undelivered as usize, "{here}");
        let backlog = consumer.backlog().await.unwrap();
        // Until the next trim the backlog may be unknown, but never wrong.
        assert!(backlog.events.map_or(lost, |events| events == model.backlog), "{here}: {backlog:?}");
        assert_eq!(backlog.pending, model.pending.len() as u64, "{here}");
        assert!(backlog.lag.is_none_or(|lag| lag == model.undelivered), "{here}: {backlog:?}");
    }
    if window.is_zero() {
        // A trim that counts the events again removes nothing.
        consumers[0].trim().await.unwrap();
        consumers[0].trim().await.unwrap();
        let oldest = model.pending.keys().next();
        let left: Vec<_> = in_stream(server).await.into_iter().filter(|at| model.acknowledged.contains(at)).collect();
        assert!(left.iter().all(|at| oldest.is_some_and(|oldest| at > oldest)), "seed {seed}: trimmed too little");
    }
}

/// A group that somebody else made could otherwise let the stream grow until Redis is full, by reading nothing.
#[tokio::test]
async fn a_group_of_somebody_else_keeps_no_entry_in_the_stream() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let reader = reader(&server, "a", Duration::ZERO, 1 << 30);
    fill(&writer, 0, 3).await;
    let _: String = server.command("XGROUP CREATE test:{0} theirs 0").await;
    let all = read(&reader, 3).await;
    reader.acknowledge(&done(&all)).await.unwrap();
    assert_eq!(reader.trim().await.unwrap(), 3);
    assert_eq!(reader.backlog().await.unwrap().events, Some(0));
}

#[tokio::test]
async fn while_events_are_counted_again_nothing_is_removed() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let reader = reader(&server, "a", Duration::ZERO, 1 << 30);
    for events in [1, 2, 3, 4] {
        writer.append(&append(events)).await.unwrap();
    }
    let first = read(&reader, 1).await;
    // A count that another replica has begun: it has added up what is pending, and nothing else.
    let _: u64 = server.command("DEL test:{0}:counts").await;
    let at = format!("{}-{}", first[0].position.millis, first[0].position.sequence);
    let begun = format!("HSET test:{{0}}:counts acknowledged 0 recount_after {at} recount_events 1");
    let _: u64 = server.command(&begun).await;
    let stored = read(&reader, 1).await;
    reader.acknowledge(&done(&first)).await.unwrap();
    reader.acknowledge(&done(&stored)).await.unwrap();
    assert_eq!(reader.trim().await.unwrap(), 0, "what is acknowledged is not counted yet");
    assert_eq!(reader.backlog().await.unwrap().events, Some(3 + 4));
    assert_eq!(reader.trim().await.unwrap(), 2);
}

#[tokio::test]
async fn the_replay_window_is_counted_from_the_acknowledgement_and_not_from_the_append() {
    const WINDOW: Duration = Duration::from_secs(2);
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let reader = reader(&server, "a", WINDOW, 64 << 20);
    // These entries are two hours old, by their ids: they waited in a backlog.
    let time: (u64, u64) = server.command("TIME").await;
    for sequence in 0..5 {
        let id = format!("{}-{sequence}", (time.0 - 7200) * 1000);
        let _: String = server.command(&format!("XADD test:{{0}} {id} e body n 1")).await;
    }
    fill(&writer, 0, 3).await;
    let all = read(&reader, 8).await;
    assert_eq!(reader.trim().await.unwrap(), 0, "all are pending");
    let began = Instant::now();
    reader.acknowledge(&done(&all[..5])).await.unwrap();
    let mut removed = 0;
    while removed == 0 {
        removed = reader.trim().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is trimmed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= WINDOW, "it was trimmed {:?} after it was acknowledged", began.elapsed());
    assert_eq!(removed, 5);
    assert_eq!(in_stream(&server).await, positions(&all[5..]).into_iter().collect(), "the others are pending");
}

#[tokio::test]
async fn the_log_says_since_when_everything_that_was_acknowledged_is_still_there() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let reader = reader(&server, "a", HOUR, 1 << 20);
    assert_eq!(reader.marks().await.unwrap().covered_since, None, "nothing was observed yet");
    reader.trim().await.unwrap();
    let first = reader.marks().await.unwrap();
    assert!(first.covered_since.is_some_and(|since| since <= first.now), "{first:?}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    fill(&writer, 0, 3).await;
    reader.acknowledge(&done(&read(&reader, 3).await)).await.unwrap();
    reader.trim().await.unwrap();
    assert_eq!(reader.marks().await.unwrap().covered_since, first.covered_since, "nothing was removed");
    for _ in 0..100 {
        let append = Append { stream: 0, entry: entry(1, 50_000), keyed: Vec::new() };
        writer.append(&append).await.unwrap();
    }
    reader.acknowledge(&done(&read(&reader, 100).await)).await.unwrap();
    assert!(reader.trim().await.unwrap() > 0, "the window is too large");
    assert!(reader.marks().await.unwrap().covered_since > first.covered_since, "some of it was removed");
}

#[tokio::test]
async fn the_replay_window_shrinks_to_its_bytes() {
    const LIMIT: u64 = 1 << 20;
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let reader = reader(&server, "a", HOUR, LIMIT);
    for _ in 0..100 {
        let append = Append { stream: 0, entry: entry(1, 50_000), keyed: Vec::new() };
        writer.append(&append).await.unwrap();
        // Entries of one millisecond are trimmed together, so the entries are spread over time as in production: far enough
        // that what a busy machine adds matters little.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let all = read(&reader, 100).await;
    reader.acknowledge(&done(&all)).await.unwrap();
    let usage = async || server.command::<Option<u64>>("MEMORY USAGE test:{0}").await.unwrap_or(0);
    assert!(usage().await > 4 * LIMIT);
    reader.trim().await.unwrap();
    let left = in_stream(&server).await;
    assert!(usage().await <= LIMIT * 11 / 10, "{} bytes, {} entries are left", usage().await, left.len());
    assert!(left.len() >= 5, "only {} entries are left: too much was trimmed", left.len());
    assert_eq!(left.last(), Some(&all[99].position), "the newest entries stay");
    assert_eq!(reader.trim().await.unwrap(), 0, "the window fits now");
}

#[tokio::test]
async fn a_window_that_lasted_no_time_is_given_up_when_it_is_too_large() {
    let server = RedisServer::start().await;
    let reader = reader(&server, "a", HOUR, 1000);
    let time: (u64, u64) = server.command("TIME").await;
    for sequence in 0..50 {
        let id = format!("{}-{sequence}", time.0 * 1000);
        let body = "x".repeat(500);
        let _: String = server.command(&format!("XADD test:{{0}} {id} e {body} n 1")).await;
    }
    let all = read(&reader, 50).await;
    reader.acknowledge(&done(&all[..30])).await.unwrap();
    assert_eq!(reader.trim().await.unwrap(), 30);
    assert_eq!(in_stream(&server).await, positions(&all[30..]).into_iter().collect());
}

#[tokio::test]
async fn a_slow_consumer_does_not_lose_what_others_have_long_done() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "").0).unwrap();
    let (slow, quick) = (reader(&server, "slow", Duration::ZERO, 0), reader(&server, "quick", Duration::ZERO, 0));
    fill(&writer, 0, 50).await;
    let first = read(&quick, 20).await;
    let held = read(&slow, 1).await;
    let rest = read(&quick, 29).await;
    quick.acknowledge(&done(&first)).await.unwrap();
    quick.acknowledge(&done(&rest)).await.unwrap();
    assert_eq!(quick.trim().await.unwrap(), 20);
    assert_eq!(slow.read_own_pending(None, 10).await.unwrap(), held);
    slow.acknowledge(&done(&held)).await.unwrap();
    assert_eq!(quick.trim().await.unwrap(), 30);
}
