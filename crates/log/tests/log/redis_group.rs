//! Tests of the consumer group: its loss and its creation, its counters, and the removal of consumers.

use std::time::Duration;

use sluice_log::redis::{ReaderSettings, RedisReader, RedisWriter};
use sluice_log::{Appended, LogReader, LogWriter};

use crate::backends::settings;
use crate::support::{RedisServer, append, bodies, done, fill, read, wait_for};

async fn started() -> (RedisServer, RedisWriter, RedisReader) {
    let server = RedisServer::start().await;
    let (writer, reader) = settings(&server, "a");
    (server, RedisWriter::new(writer).unwrap(), RedisReader::new(reader).unwrap())
}

#[tokio::test]
async fn the_group_is_made_again_after_redis_lost_everything() {
    let (server, writer, reader) = started().await;
    fill(&writer, 0, 5).await;
    let lost = read(&reader, 3).await;

    let _: String = server.command("FLUSHALL").await;
    assert_eq!(reader.acknowledge(&done(&lost)).await.unwrap(), 0);
    assert_eq!(writer.append(&append(2)).await.unwrap(), Appended::Stored { backlog: Some(2) });
    let read = read(&reader, 1).await;
    let backlog = reader.backlog().await.unwrap();
    assert_eq!((backlog.events, backlog.lag, backlog.pending), (Some(2), Some(0), 1));
    assert_eq!(reader.acknowledge(&done(&read)).await.unwrap(), 1);
    assert_eq!(reader.backlog().await.unwrap().events, Some(0));
}

#[tokio::test]
async fn every_verb_makes_the_group_where_it_is_missing() {
    let (server, writer, reader) = started().await;
    fill(&writer, 0, 1).await;
    let held = read(&reader, 1).await;
    let positions = crate::support::positions(&held);
    for verb in 0..9 {
        let _: u64 = server.command("XGROUP DESTROY test:{0} aggregators").await;
        match verb {
            0 => drop(reader.read_own_pending(None, 10).await.unwrap()),
            1 => drop(reader.read_new(10, Duration::ZERO).await.unwrap()),
            2 => drop(reader.claim(Duration::ZERO, 10).await.unwrap()),
            3 => reader.extend_claim(&positions).await.unwrap(),
            4 => drop(reader.deliveries(&positions).await.unwrap()),
            5 => drop(reader.consumers().await.unwrap()),
            6 => drop(reader.remove_departed(Duration::ZERO).await.unwrap()),
            7 => assert!(reader.leave().await.unwrap()),
            // Without a group nothing is acknowledged and nothing is trimmed.
            _ => {
                assert_eq!(reader.acknowledge(&done(&held)).await.unwrap(), 0);
                assert_eq!(reader.trim().await.unwrap(), 0);
            }
        }
        assert_eq!(server.command::<u64>("XLEN test:{0}").await, 1, "after verb {verb}");
    }
}

#[tokio::test]
async fn a_reader_that_waits_survives_the_loss_of_its_stream() {
    let (server, writer, reader) = started().await;
    fill(&writer, 0, 1).await;
    let first = read(&reader, 1).await;
    reader.acknowledge(&done(&first)).await.unwrap();
    let losing = async {
        wait_for("the reader to block", async || (server.info("blocked_clients").await == 1).then_some(())).await;
        let _: String = server.command("FLUSHALL").await;
        fill(&writer, 0, 1).await
    };
    let (read, appended) = futures::join!(reader.read_new(1, Duration::from_secs(15)), losing);
    let mut read = bodies(&read.unwrap());
    if read.is_empty() {
        read = bodies(&crate::support::read(&reader, 1).await);
    }
    assert_eq!(read, appended);
}

#[tokio::test]
async fn counters_are_counted_anew_when_the_group_was_removed() {
    let (server, writer, reader) = started().await;
    for events in [3, 4, 5, 6] {
        writer.append(&append(events)).await.unwrap();
    }
    let read = read(&reader, 3).await;
    reader.acknowledge(&done(&read[..2])).await.unwrap();
    assert_eq!(reader.trim().await.unwrap(), 2);
    reader.acknowledge(&done(&read[2..])).await.unwrap();
    assert_eq!(reader.backlog().await.unwrap().events, Some(6));

    // The third entry is acknowledged but still in the stream: it is delivered again and is in the backlog.
    let _: u64 = server.command("XGROUP DESTROY test:{0} aggregators").await;
    let again = crate::support::read(&reader, 2).await;
    assert_eq!(again.iter().map(|entry| entry.events).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(reader.backlog().await.unwrap().events, Some(11));
    assert_eq!(reader.acknowledge(&done(&again)).await.unwrap(), 2);
    assert_eq!(reader.backlog().await.unwrap().events, Some(0));
}

#[tokio::test]
async fn a_backlog_of_many_entries_is_counted_anew() {
    let (server, writer, reader) = started().await;
    for events in 1..=200 {
        writer.append(&append(events)).await.unwrap();
    }
    let _: u64 = server.command("DEL test:{0}:counts").await;
    assert_eq!(writer.pressure().await.unwrap().backlog, None, "unknown, not zero");
    assert_eq!(writer.append(&append(1)).await.unwrap(), Appended::Stored { backlog: None });
    assert_eq!(writer.append(&append(1)).await.unwrap(), Appended::Stored { backlog: None });

    reader.read_new(1, Duration::ZERO).await.unwrap();
    assert_eq!(reader.backlog().await.unwrap().events, Some(200 * 201 / 2 + 2));
    assert_eq!(writer.append(&append(1)).await.unwrap(), Appended::Stored { backlog: Some(200 * 201 / 2 + 3) });
}

#[tokio::test]
async fn lost_counters_are_unknown_until_the_next_trim_counts_what_is_outstanding() {
    let (server, writer, reader) = started().await;
    fill(&writer, 0, 3).await;
    let all = read(&reader, 3).await;
    let _: u64 = server.command("DEL test:{0}:counts").await;
    reader.acknowledge(&done(&all[..1])).await.unwrap();
    assert_eq!(reader.backlog().await.unwrap().events, None);
    reader.trim().await.unwrap();
    let left: u64 = all[1..].iter().map(|entry| entry.events).sum();
    assert_eq!(reader.backlog().await.unwrap().events, Some(left));
    reader.acknowledge(&done(&all[1..])).await.unwrap();
    assert_eq!(reader.backlog().await.unwrap().events, Some(0));
    assert_eq!(writer.append(&append(4)).await.unwrap(), Appended::Stored { backlog: Some(4) });
}

async fn trim_until_known(reader: &RedisReader) -> u64 {
    wait_for("the backlog to be known", async || {
        reader.trim().await.unwrap();
        reader.backlog().await.unwrap().events
    })
    .await
}

#[tokio::test]
async fn the_backlog_is_counted_again_under_load_and_no_entry_is_missed_or_counted_twice() {
    let (server, writer, reader) = started().await;
    let other = RedisReader::new(settings(&server, "other").1).unwrap();
    let mut outstanding = 0;
    for events in 1..=1_000 {
        writer.append(&append(events)).await.unwrap();
        outstanding += events;
    }
    let held = read(&other, 40).await;
    let _: u64 = server.command("DEL test:{0}:counts").await;
    // A client appends, a replica stores, and two replicas trim, while the stream is counted.
    let appending = async {
        for _ in 0..200 {
            writer.append(&append(7)).await.unwrap();
        }
    };
    let storing = async {
        let mut stored = 0;
        for _ in 0..30 {
            let entries = reader.read_new(10, Duration::ZERO).await.unwrap();
            stored += entries.iter().map(|entry| entry.events).sum::<u64>();
            reader.acknowledge(&done(&entries)).await.unwrap();
        }
        stored
    };
    let trims = [trim_until_known(&reader), trim_until_known(&other)];
    let ((), stored, _) = tokio::join!(appending, storing, futures::future::join_all(trims));
    // An append that found nothing but its own events in the counter may have removed it after it was counted.
    trim_until_known(&reader).await;
    outstanding = outstanding + 200 * 7 - stored;
    assert_eq!(reader.backlog().await.unwrap().events, Some(outstanding));
    assert_eq!(writer.pressure().await.unwrap().backlog, Some(outstanding));
    other.acknowledge(&done(&held)).await.unwrap();
    outstanding -= held.iter().map(|entry| entry.events).sum::<u64>();
    assert_eq!(reader.backlog().await.unwrap().events, Some(outstanding));
}

#[tokio::test]
async fn departed_consumers_are_removed_only_without_pending_entries() {
    let (server, writer, reader) = started().await;
    let consumer = |name: &str| RedisReader::new(settings(&server, name).1).unwrap();
    fill(&writer, 0, 2).await;
    let (idle, holder) = (consumer("idle"), consumer("holder"));
    let held = read(&holder, 1).await;
    let mut done_by_idle = read(&idle, 1).await;
    idle.acknowledge(&done(&done_by_idle)).await.unwrap();

    const IDLE: Duration = Duration::from_millis(300);
    let removed = wait_for("the idle consumer to be removed", async || {
        let removed = reader.remove_departed(IDLE).await.unwrap();
        (!removed.is_empty()).then_some(removed)
    })
    .await;
    assert_eq!(removed, ["idle"]);
    assert_eq!(reader.remove_departed(IDLE).await.unwrap(), [""; 0]);
    assert_eq!(reader.backlog().await.unwrap().pending, 1, "the entry of the holder is still pending");

    let claimed = reader.claim(Duration::ZERO, 10).await.unwrap();
    assert_eq!(claimed.entries, held);
    let removed = wait_for("the holder to be removed", async || {
        let removed = reader.remove_departed(IDLE).await.unwrap();
        (!removed.is_empty()).then_some(removed)
    })
    .await;
    assert_eq!(removed, ["holder"]);
    assert_eq!(reader.acknowledge(&done(&held)).await.unwrap(), 1);

    // A removed consumer can read again.
    fill(&writer, 0, 1).await;
    done_by_idle = read(&idle, 1).await;
    assert_eq!(idle.acknowledge(&done(&done_by_idle)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_consumer_that_finds_nothing_to_read_has_not_departed() {
    let (server, _writer, reader) = started().await;
    let other = RedisReader::new(settings(&server, "other").1).unwrap();
    for _ in 0..4 {
        assert_eq!(other.read_new(1, Duration::from_millis(600)).await.unwrap(), []);
        assert_eq!(reader.remove_departed(Duration::from_secs(2)).await.unwrap(), [""; 0]);
    }
    let names: Vec<_> = reader.consumers().await.unwrap().into_iter().map(|consumer| consumer.name).collect();
    assert_eq!(names, ["other"]);
}

#[tokio::test]
async fn a_consumer_that_leaves_is_gone_and_what_it_holds_keeps_it() {
    let (_server, writer, reader) = started().await;
    fill(&writer, 0, 1).await;
    let held = read(&reader, 1).await;
    assert!(!reader.leave().await.unwrap());
    assert_eq!(reader.consumers().await.unwrap()[0].pending, 1);
    reader.acknowledge(&done(&held)).await.unwrap();
    assert!(reader.leave().await.unwrap());
    assert_eq!(reader.consumers().await.unwrap(), []);
}

#[tokio::test]
async fn consumers_of_several_streams_are_listed_once() {
    let server = RedisServer::start().await;
    let (writer, reader) = settings(&server, "a");
    let writer = RedisWriter::new(sluice_log::redis::WriterSettings { streams: 3, ..writer }).unwrap();
    let reader = RedisReader::new(ReaderSettings { streams: 3, ..reader }).unwrap();
    for stream in 0..3 {
        fill(&writer, stream, 2).await;
    }
    let held = read(&reader, 6).await;
    let consumers = reader.consumers().await.unwrap();
    assert_eq!((consumers.len(), consumers[0].pending), (1, 6));
    reader.acknowledge(&done(&held[..5])).await.unwrap();
    assert!(!reader.leave().await.unwrap());
    reader.acknowledge(&done(&held[5..])).await.unwrap();
    assert!(reader.leave().await.unwrap());
    assert_eq!(reader.consumers().await.unwrap(), []);
}

#[tokio::test]
async fn removing_consumers_while_they_read_loses_no_entry() {
    const ENTRIES: usize = 400;
    let (server, writer, reader) = started().await;
    let busy = RedisReader::new(settings(&server, "busy").1).unwrap();
    fill(&writer, 0, ENTRIES).await;
    let mut acknowledged = 0;
    let reading = async {
        loop {
            let read = busy.read_new(1, Duration::ZERO).await.unwrap();
            if read.is_empty() {
                return;
            }
            acknowledged += busy.acknowledge(&done(&read)).await.unwrap();
        }
    };
    let removing = async {
        loop {
            reader.remove_departed(Duration::ZERO).await.unwrap();
        }
    };
    futures::future::select(std::pin::pin!(reading), std::pin::pin!(removing)).await;
    // If a consumer were removed while an entry is pending for it, that entry could never be claimed.
    assert_eq!(acknowledged, ENTRIES as u64);
    assert_eq!(reader.backlog().await.unwrap().events, Some(0));
}
