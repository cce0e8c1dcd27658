//! What the log finds out about what the Redis server promises.

use std::time::{Duration, Instant};

use sluice_log::redis::{DURABILITY_SETTINGS, RedisReader, RedisWriter, WriterSettings};
use sluice_log::{LogReader, LogWriter};
use sluice_service::durability::{Durability, Requirement};

use crate::backends::settings;
use crate::support::*;

/// The names of the settings that are less than durability needs, or unknown; sorted.
fn missing(durability: &Durability) -> Vec<String> {
    let requirement = Requirement { servers: vec![durability.clone()], ..Requirement::default() };
    let lines = requirement.check().unwrap();
    let mut names: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

fn refusal(durability: Durability, accepted: &[&str]) -> Option<String> {
    let accept_unknown = accepted.iter().map(ToString::to_string).collect();
    Requirement { servers: vec![durability], require: true, accept_unknown, ..Requirement::default() }.check().err()
}

#[tokio::test]
async fn a_durable_server_is_enough_for_both_sides() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb"]).await;
    let (writer, reader) = settings(&server, "a");
    let (writer, reader) = (RedisWriter::new(writer).unwrap(), RedisReader::new(reader).unwrap());
    assert!(refusal(writer.durability(), &[]).is_some(), "nothing is known before the first connection");
    writer.pressure().await.unwrap();
    reader.backlog().await.unwrap();
    for durability in [writer.durability(), reader.durability()] {
        assert_eq!(missing(&durability), [""; 0]);
        assert_eq!(refusal(durability, &[]), None);
    }
}

#[tokio::test]
async fn each_setting_that_is_less_than_needed_is_named() {
    let less = ["--appendonly", "no", "--appendfsync", "everysec", "--no-appendfsync-on-rewrite", "yes"];
    let server = RedisServer::start_with(&[&less[..], &["--maxmemory-policy", "allkeys-lru"]].concat()).await;
    let writer = RedisWriter::new(settings(&server, "a").0).unwrap();
    writer.pressure().await.unwrap();
    let mut all = DURABILITY_SETTINGS;
    all.sort_unstable();
    assert_eq!(missing(&writer.durability()), all);
    // Being less is never accepted.
    assert!(refusal(writer.durability(), &DURABILITY_SETTINGS).is_some());
}

#[tokio::test]
async fn what_the_server_refuses_to_tell_is_unknown() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb"]).await;
    let _: String = server.command("ACL SETUSER limited on >secret ~* &* +@all -config").await;
    let url = server.url().replace("redis://", "redis://limited:secret@");
    let writer = RedisWriter::new(WriterSettings { url, ..settings(&server, "a").0 }).unwrap();
    writer.pressure().await.unwrap();
    let unknown = ["redis.appendfsync", "redis.no-appendfsync-on-rewrite"];
    assert_eq!(missing(&writer.durability()), unknown);
    assert!(refusal(writer.durability(), &unknown[..1]).is_some());
    assert_eq!(refusal(writer.durability(), &unknown), None);
}

#[tokio::test]
async fn a_setting_that_is_changed_while_the_server_runs_is_noticed() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb"]).await;
    let writer = RedisWriter::new(settings(&server, "a").0).unwrap();
    writer.pressure().await.unwrap();
    for (value, expected) in [("everysec", &["redis.appendfsync"][..]), ("always", &[])] {
        let _: String = server.command(&format!("CONFIG SET appendfsync {value}")).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        while missing(&writer.durability()) != expected {
            assert!(Instant::now() < deadline, "appendfsync {value} was not noticed");
            tokio::time::sleep(Duration::from_millis(100)).await;
            writer.pressure().await.unwrap();
        }
    }
}
