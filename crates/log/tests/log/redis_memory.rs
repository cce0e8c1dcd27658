//! Tests of Redis at its memory limit.

use std::time::Duration;

use sluice_log::redis::{ReaderSettings, RedisReader, RedisWriter, WriterSettings};
use sluice_log::{Append, Appended, LogError, LogReader, LogWriter};

use crate::backends::settings;
use crate::support::{RedisServer, done, entry, keyed, read};

fn large() -> Append {
    Append { stream: 0, entry: entry(1, 50_000), keyed: Vec::new() }
}

/// Appends until the log is full; returns the number of entries appended.
async fn fill_up(writer: &RedisWriter) -> u64 {
    let mut appended = 0;
    loop {
        match writer.append(&large()).await {
            Ok(Appended::Stored { .. }) => appended += 1,
            Err(LogError::Full(_)) => return appended,
            other => panic!("{other:?}"),
        }
        assert!(appended < 10_000);
    }
}

#[tokio::test]
async fn at_maxmemory_appending_is_refused_and_all_that_frees_memory_works() {
    let server = RedisServer::start_with(&["--maxmemory", "16mb"]).await;
    let (writer, reader) = settings(&server, "a");
    let writer = RedisWriter::new(writer).unwrap();
    // A long replay window. It is not given up when memory is short, but takes no more than its share of it.
    let reader = RedisReader::new(ReaderSettings { replay_window: Duration::from_secs(3600), ..reader }).unwrap();
    let appended = fill_up(&writer).await;
    assert!(appended > 20, "only {appended} entries fitted");
    let pressure = writer.pressure().await.unwrap();
    assert!(pressure.memory.unwrap() > 0.95, "{pressure:?}");
    assert_eq!(pressure.backlog, Some(appended));

    // A refused append writes nothing, not even the record of its key.
    let (key, body) = (1, 2);
    assert!(matches!(writer.append(&keyed(&[(key, body)])).await, Err(LogError::Full(_))));
    assert_eq!(server.command::<u64>("XLEN test:{0}").await, appended);
    assert_eq!(server.command::<Vec<String>>("KEYS *:keys:*").await, [""; 0]);

    // The reader connects only now, so the group is created at maxmemory.
    let all = read(&reader, appended as usize).await;
    reader.extend_claim(&[all[0].position]).await.unwrap();
    assert_eq!(reader.claim(Duration::ZERO, 1).await.unwrap().entries.len(), 1);
    assert_eq!(reader.acknowledge(&done(&all)).await.unwrap(), appended);
    let fresh = RedisWriter::new(settings(&server, "a").0).unwrap();
    assert_eq!(fresh.pressure().await.unwrap().backlog, Some(0));

    assert!(reader.trim().await.unwrap() > 0);
    let window = server.command::<u64>("MEMORY USAGE test:{0} SAMPLES 0").await;
    assert!(((1 << 20)..=(4 << 20)).contains(&window), "{window} bytes of the window's share of 4 MiB");
    assert_eq!(reader.trim().await.unwrap(), 0, "the rest of the window stays");
    assert!(reader.leave().await.unwrap());
    assert_eq!(writer.append(&keyed(&[(key, body)])).await.unwrap(), Appended::Stored { backlog: Some(1) });
}

#[tokio::test]
async fn trimming_frees_memory() {
    let server = RedisServer::start().await;
    let (writer, reader) = settings(&server, "a");
    let (writer, reader) = (RedisWriter::new(writer).unwrap(), RedisReader::new(reader).unwrap());
    let before = server.info("used_memory").await;
    for _ in 0..400 {
        writer.append(&large()).await.unwrap();
    }
    let all = read(&reader, 400).await;
    reader.acknowledge(&done(&all)).await.unwrap();
    let full = server.info("used_memory").await;
    assert!(full - before > 400 * 50_000, "acknowledging frees nothing: {before} → {full}");
    assert_eq!(reader.trim().await.unwrap(), 400);
    let after = server.info("used_memory").await;
    assert!(after - before < (full - before) / 10, "{before} → {full} → {after}");
}

#[tokio::test]
async fn memory_without_a_limit_is_unknown() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "a").0).unwrap();
    let pressure = writer.pressure().await.unwrap();
    assert_eq!((pressure.backlog, pressure.memory), (Some(0), None));
}

/// Returns the memory of the key records, in bytes.
async fn key_records(server: &RedisServer) -> u64 {
    let mut sum = 0;
    for hash in ["newer", "older"] {
        let usage: Option<u64> = server.command(&format!("MEMORY USAGE test:{{0}}:keys:{hash} SAMPLES 0")).await;
        sum += usage.unwrap_or(0);
    }
    sum
}

#[tokio::test]
async fn key_records_never_take_more_than_their_share_and_refuse_nothing() {
    const LIMIT: u64 = 16 << 20;
    const PER_ENTRY: u128 = 1_000;
    let server = RedisServer::start_with(&["--maxmemory", &LIMIT.to_string()]).await;
    let (writer, reader) = settings(&server, "a");
    let writer = RedisWriter::new(writer).unwrap();
    let reader = RedisReader::new(reader).unwrap();
    let share = LIMIT / 5;
    // A record has about 100 bytes, so this is about ten times the share.
    let keys = u128::from(share / 100 * 10);
    let (mut key, mut largest) = (0, 0);
    while key < keys {
        let pairs: Vec<_> = (key..key + PER_ENTRY).map(|key| (key, 1)).collect();
        assert!(matches!(writer.append(&keyed(&pairs)).await, Ok(Appended::Stored { .. })));
        key += PER_ENTRY;
        if key % 5_000 == 0 {
            // An aggregator stores the entries and removes them.
            let all = read(&reader, 5).await;
            reader.acknowledge(&done(&all)).await.unwrap();
            reader.trim().await.unwrap();
            largest = largest.max(key_records(&server).await);
        }
    }
    assert!(largest <= share, "{largest} bytes of {share}");
    // Valkey 8.1 needs little more than half of what Redis needs for a record.
    let is_valkey = server.command::<String>("INFO server").await.contains("valkey_version");
    let least = if is_valkey { share / 3 } else { share / 2 };
    assert!(largest > least, "only {largest} bytes of {share} are used");
    // The newest keys are still recorded, and the oldest are not.
    assert_eq!(writer.append(&keyed(&[(key - 1, 2)])).await.unwrap(), Appended::KeyReused(vec![0]));
    assert!(matches!(writer.append(&keyed(&[(0, 2)])).await.unwrap(), Appended::Stored { .. }));
}

#[tokio::test]
async fn a_key_that_is_used_again_is_recorded_for_the_time_to_live_again() {
    let server = RedisServer::start().await;
    let ttl = Duration::from_secs(2);
    let writer = RedisWriter::new(WriterSettings { idempotency_ttl: ttl, ..settings(&server, "a").0 }).unwrap();
    let began = std::time::Instant::now();
    // Used more often than the time to live, so another body is refused all the time.
    while began.elapsed() < 3 * ttl {
        assert!(matches!(writer.append(&keyed(&[(1, 1)])).await, Ok(Appended::Stored { .. })));
        assert_eq!(writer.append(&keyed(&[(1, 2)])).await.unwrap(), Appended::KeyReused(vec![0]));
        tokio::time::sleep(ttl / 20).await;
    }
}
