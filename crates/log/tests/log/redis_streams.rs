//! Tests with a number of streams that is raised or lowered.

use std::time::Duration;

use sluice_log::redis::{ReaderSettings, RedisReader, RedisWriter, WriterSettings};
use sluice_log::{LogReader, LogWriter};

use crate::backends::settings;
use crate::support::{RedisServer, bodies, done, fill, read};

fn writer(server: &RedisServer, streams: u16) -> RedisWriter {
    RedisWriter::new(WriterSettings { streams, ..settings(server, "a").0 }).unwrap()
}

fn reader(server: &RedisServer, streams: u16) -> RedisReader {
    RedisReader::new(ReaderSettings { streams, ..settings(server, "a").1 }).unwrap()
}

fn sorted(mut bodies: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    bodies.sort();
    bodies
}

#[tokio::test]
async fn streams_beyond_a_lowered_number_are_still_read() {
    let server = RedisServer::start().await;
    let mut appended = Vec::new();
    for stream in 0..4 {
        appended.extend(fill(&writer(&server, 4), stream, 2).await);
    }
    let lowered = writer(&server, 1);
    appended.extend(fill(&lowered, 0, 2).await);
    let reader = reader(&server, 1);
    assert_eq!(lowered.pressure().await.unwrap().backlog, Some(10));
    let read = read(&reader, 10).await;
    assert_eq!(sorted(bodies(&read)), sorted(appended));
    let backlog = reader.backlog().await.unwrap();
    assert_eq!((backlog.events, backlog.lag, backlog.pending), (Some(10), Some(0), 10));
    assert_eq!(reader.acknowledge(&done(&read)).await.unwrap(), 10);
    assert_eq!(reader.trim().await.unwrap(), 10);
    assert_eq!(lowered.pressure().await.unwrap().backlog, Some(0));
}

#[tokio::test]
async fn a_reader_finds_streams_that_were_added_while_it_runs() {
    let server = RedisServer::start().await;
    let reader = reader(&server, 1);
    let mut appended = fill(&writer(&server, 1), 0, 1).await;
    let mut found = read(&reader, 1).await;
    let raised = writer(&server, 3);
    for stream in 0..3 {
        appended.extend(fill(&raised, stream, 2).await);
    }
    found.extend(read(&reader, 6).await);
    assert_eq!(sorted(bodies(&found)), sorted(appended));
}

#[tokio::test]
async fn the_number_of_streams_is_recorded_again_after_redis_lost_it() {
    let mut server = RedisServer::start_with(&["--appendonly", "no"]).await;
    let writer = writer(&server, 3);
    fill(&writer, 0, 1).await;
    server.kill();
    server.start_again().await;
    crate::support::wait_for("the append", async || writer.append(&crate::support::append(1)).await.ok()).await;
    assert_eq!(server.command::<u16>("GET test:streams").await, 3);
}

#[tokio::test]
async fn a_read_from_several_streams_stays_near_its_limit() {
    let server = RedisServer::start().await;
    let (writer, reader) = (writer(&server, 4), reader(&server, 4));
    for stream in 0..4 {
        fill(&writer, stream, 10).await;
    }
    let read = reader.read_new(8, Duration::ZERO).await.unwrap();
    assert_eq!(read.len(), 8);
}
