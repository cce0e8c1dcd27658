//! A Redis that comes back without entries that it had confirmed.

use std::path::Path;
use std::process::Command;

use sluice_log::redis::{RedisReader, RedisWriter};
use sluice_log::replay::CommitMark;
use sluice_log::{LogReader, LogWriter};
use sluice_service::durability::Requirement;
use sluice_tests::dirs;
use sluice_tests::redis::RedisServer;

use crate::backends::settings_at;
use crate::support::{append, done, fill, keyed, read, wait_for};

fn writer(server: &RedisServer) -> RedisWriter {
    RedisWriter::new(settings_at(&server.url(), "a").0).unwrap()
}

/// Returns the lines of `/readyz` about losses.
fn losses(writer: &RedisWriter) -> Vec<String> {
    let requirement = Requirement { servers: vec![writer.durability()], ..Requirement::default() };
    requirement.check().unwrap().into_iter().filter(|line| line.contains("has lost")).collect()
}

/// Returns the same of an aggregator.
fn losses_of_reader(reader: &RedisReader) -> Vec<String> {
    let requirement = Requirement { servers: vec![reader.durability()], ..Requirement::default() };
    requirement.check().unwrap().into_iter().filter(|line| line.contains("has lost")).collect()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

async fn appends(writer: &RedisWriter) {
    wait_for("an append", async || writer.append(&append(1)).await.ok()).await;
}

#[tokio::test]
async fn a_log_that_comes_back_empty_is_reported() {
    let mut server = RedisServer::start_with(&["--appendonly", "no"]);
    let writer = writer(&server);
    fill(&writer, 0, 2).await;
    let last: Vec<(String, redis::Value)> = server.command(&["XREVRANGE", "test:{0}", "+", "-", "COUNT", "1"]).unwrap();
    assert_eq!(losses(&writer), Vec::<String>::new());
    server.kill();
    server.start_again();
    appends(&writer).await;
    let found = losses(&writer);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .contains(&format!("stream 0 that it had confirmed: all or some from the beginning up to {}", last[0].0))
    );
}

#[tokio::test]
async fn a_restored_backup_is_reported_although_others_have_appended_since() {
    for last in [append(1), keyed(&[(1, 1)])] {
        let (data, backup) = (dirs::fresh("redis").join("data"), dirs::fresh("backup").join("data"));
        std::fs::create_dir(&data).unwrap();
        let mut server = RedisServer::start_in(&data, &[]);
        let (loses, other) = (writer(&server), writer(&server));
        fill(&loses, 0, 2).await;
        server.kill();
        copy(&data, &backup);
        server.start_again();
        wait_for("an append", async || loses.append(&last).await.ok()).await;
        server.kill();
        std::fs::remove_dir_all(&data).unwrap();
        copy(&backup, &data);
        server.start_again();

        // The ids of the stream are higher than that of the lost entry again.
        fill(&other, 0, 2).await;
        appends(&loses).await;
        assert_eq!((losses(&loses).len(), losses(&other).len()), (1, 0));
    }
}

#[tokio::test]
async fn a_log_that_has_everything_or_was_trimmed_is_not_reported() {
    let mut server = RedisServer::start();
    let writer = writer(&server);
    fill(&writer, 0, 2).await;
    server.kill();
    server.start_again();
    appends(&writer).await;
    assert_eq!(losses(&writer), Vec::<String>::new());

    let reader = RedisReader::new(settings_at(&server.url(), "a").1).unwrap();
    let all = read(&reader, 3).await;
    reader.acknowledge(&done(&all)).await.unwrap();
    assert_eq!(reader.trim().await.unwrap(), 3);
    server.kill();
    server.start_again();
    appends(&writer).await;
    assert_eq!(losses(&writer), Vec::<String>::new());
}

#[tokio::test]
async fn acknowledgements_that_were_lost_are_reported() {
    let server = RedisServer::start();
    let (writer, reader) = (writer(&server), RedisReader::new(settings_at(&server.url(), "a").1).unwrap());
    let acknowledge = async |worker: &str, number: u64| {
        fill(&writer, 0, 1).await;
        let held = read(&reader, 1).await;
        let mark = CommitMark { worker: worker.to_owned(), number };
        assert_eq!(reader.acknowledge_commit(&done(&held), &mark).await.unwrap(), 1);
    };
    for number in 1..=5 {
        acknowledge("a/0", number).await;
    }
    acknowledge("a/1", 9).await;
    assert_eq!(losses_of_reader(&reader), Vec::<String>::new());

    // As it was before.
    server.command::<()>(&["HSET", "test:{0}:marks", "a/0", "3 1000"]).unwrap();
    acknowledge("a/1", 10).await;
    assert_eq!(losses_of_reader(&reader), Vec::<String>::new(), "of this worker nothing was lost");
    acknowledge("a/0", 6).await;
    let found = losses_of_reader(&reader);
    assert!(found.len() == 1 && found[0].contains("from commit 3 up to commit 5 of a/0"), "{found:?}");
}
