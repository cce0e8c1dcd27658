//! Tests of claims: entries that another consumer takes over, and entries that stay with their consumer.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use sluice_log::redis::{ReaderSettings, RedisReader, RedisWriter, WriterSettings};
use sluice_log::{LogReader, LogWriter};

use crate::backends::settings;
use crate::support::{RedisServer, bodies, done, fill, positions, read, wait_for};

struct Group {
    server: RedisServer,
    writer: RedisWriter,
}

impl Group {
    async fn start(streams: u16) -> Self {
        let server = RedisServer::start().await;
        let writer = RedisWriter::new(WriterSettings { streams, ..settings(&server, "").0 }).unwrap();
        Self { server, writer }
    }

    fn consumer(&self, name: &str) -> RedisReader {
        let streams = self.writer.streams();
        RedisReader::new(ReaderSettings { streams, ..settings(&self.server, name).1 }).unwrap()
    }
}

#[tokio::test]
async fn claims_go_round_all_streams_with_a_cursor_and_move_ownership() {
    let group = Group::start(3).await;
    let (dead, living) = (group.consumer("dead"), group.consumer("living"));
    let mut appended = BTreeMap::new();
    for stream in 0..3 {
        appended.insert(stream, fill(&group.writer, stream, 40).await);
    }
    read(&dead, 120).await;

    let (mut claimed, mut calls) = (Vec::new(), 0);
    loop {
        let step = living.claim(Duration::ZERO, 7).await.unwrap();
        assert!(step.entries.len() <= 7);
        claimed.extend(step.entries);
        calls += 1;
        if step.complete {
            break;
        }
        assert!(calls < 100, "the round does not end");
    }
    assert!(calls >= 120 / 7);
    for (stream, bodies) in appended {
        let of_stream: Vec<_> = claimed.iter().filter(|entry| entry.position.stream == stream).cloned().collect();
        assert_eq!(crate::support::bodies(&of_stream), bodies, "each entry of stream {stream} once, in order");
    }
    let consumers = living.consumers().await.unwrap();
    let pending: Vec<_> = consumers.iter().map(|consumer| (consumer.name.as_str(), consumer.pending)).collect();
    assert_eq!(pending, [("dead", 0), ("living", 120)]);
    assert_eq!(living.deliveries(&positions(&claimed)).await.unwrap(), [2; 120]);
}

#[tokio::test]
async fn young_entries_do_not_stop_the_round() {
    // XAUTOCLAIM examines at most ten times COUNT entries, and possibly none of them is idle for long enough.
    let group = Group::start(1).await;
    let (dead, living) = (group.consumer("dead"), group.consumer("living"));
    fill(&group.writer, 0, 100).await;
    let held = read(&dead, 100).await;
    const IDLE: Duration = Duration::from_millis(1500);
    let claimed = wait_for("the last entry to be claimed", async || {
        dead.extend_claim(&positions(&held[..99])).await.unwrap();
        let step = living.claim(IDLE, 2).await.unwrap();
        (!step.entries.is_empty()).then_some(step.entries)
    })
    .await;
    assert_eq!(claimed, held[99..]);
}

#[tokio::test]
async fn extending_a_claim_does_not_take_back_a_claimed_entry() {
    let group = Group::start(1).await;
    let (slow, quick) = (group.consumer("slow"), group.consumer("quick"));
    fill(&group.writer, 0, 3).await;
    let held = read(&slow, 3).await;
    let claimed = quick.claim(Duration::ZERO, 1).await.unwrap().entries;
    assert_eq!(claimed, held[..1]);
    quick.acknowledge(&done(&quick.claim(Duration::ZERO, 1).await.unwrap().entries)).await.unwrap();

    slow.extend_claim(&positions(&held)).await.unwrap();
    assert_eq!(slow.read_own_pending(None, 10).await.unwrap(), held[2..]);
    assert_eq!(quick.read_own_pending(None, 10).await.unwrap(), held[..1]);
}

#[tokio::test]
async fn entries_that_somebody_deleted_are_reported_and_break_nothing() {
    let group = Group::start(1).await;
    let (one, two) = (group.consumer("one"), group.consumer("two"));
    fill(&group.writer, 0, 10).await;
    let held = read(&one, 10).await;
    for entry in held.iter().take(7) {
        let id = format!("{}-{}", entry.position.millis, entry.position.sequence);
        let _: u64 = group.server.command(&format!("XDEL test:{{0}} {id}")).await;
    }
    // A page that has only deleted entries does not end the reading.
    assert_eq!(one.read_own_pending(None, 2).await.unwrap(), held[7..9]);
    assert_eq!(one.read_own_pending(Some(held[8].position), 2).await.unwrap(), held[9..]);

    let claimed = two.claim(Duration::ZERO, 20).await.unwrap();
    assert_eq!(claimed.lost, positions(&held[..7]));
    assert_eq!(claimed.entries, held[7..]);
    assert!(claimed.complete);
    assert_eq!(two.claim(Duration::ZERO, 20).await.unwrap().lost, []);

    // The events of the deleted entries were never acknowledged. Trimming corrects the counters once no entry is
    // pending or undelivered.
    two.acknowledge(&done(&claimed.entries)).await.unwrap();
    assert_eq!(two.backlog().await.unwrap().events, Some(7));
    two.trim().await.unwrap();
    assert_eq!(two.backlog().await.unwrap().events, Some(0));
}

/// Each of the three can be the only one that finds it: the others concern entries of another time, or of another
/// consumer.
#[tokio::test]
async fn an_entry_that_is_gone_is_counted_by_whatever_finds_it() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let counted = || {
        let metrics = recorder.handle().render();
        let line = metrics.lines().find_map(|line| line.strip_prefix("sluice_entries_lost_total "));
        line.map_or(0, |number| number.parse::<u64>().unwrap())
    };
    let group = Group::start(1).await;
    let reader = group.consumer("a");
    let take_one_and_lose_it = async || {
        fill(&group.writer, 0, 1).await;
        let held = read(&reader, 1).await;
        assert_eq!(group.server.command::<u64>("XTRIM test:{0} MAXLEN 0").await, 1);
        positions(&held)
    };

    let held = take_one_and_lose_it().await;
    reader.extend_claim(&held).await.unwrap();
    assert_eq!(counted(), 1, "by the extension of its claim");

    let held = take_one_and_lose_it().await;
    assert_eq!(reader.claim(Duration::ZERO, 10).await.unwrap().lost, held);
    assert_eq!(counted(), 2, "by a claim");

    take_one_and_lose_it().await;
    assert_eq!(reader.read_own_pending(None, 10).await.unwrap(), []);
    assert_eq!(counted(), 3, "by the read of what was delivered before");
}

#[tokio::test]
async fn own_pending_entries_are_paged_over_all_streams() {
    let group = Group::start(3).await;
    let reader = group.consumer("a");
    let mut appended = Vec::new();
    for stream in 0..3 {
        appended.extend(fill(&group.writer, stream, 5).await);
    }
    read(&reader, 15).await;
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = reader.read_own_pending(after, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        after = Some(last.position);
        all.extend(page);
    }
    assert_eq!(bodies(&all), appended);
    assert!(positions(&all).is_sorted());
}
