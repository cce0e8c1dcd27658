//! Appends that wait for replicas.

use std::time::{Duration, Instant};

use sluice_log::redis::{RedisWriter, WriterSettings};
use sluice_log::{Append, Appended, LogError, LogWriter};
use sluice_tests::process::Process;
use sluice_tests::redis::RedisServer;

use crate::backends::settings_at;
use crate::support::{append, keyed, wait_for};

const TIMEOUT: Duration = Duration::from_millis(1_500);

fn writer(primary: &RedisServer, replicas: u16) -> RedisWriter {
    let settings = WriterSettings { replicas, replicas_timeout: TIMEOUT, ..settings_at(&primary.url(), "a").0 };
    RedisWriter::new(settings).unwrap()
}

/// Stops a process as long as this exists.
struct Frozen<'a>(&'a Process);

impl<'a> Frozen<'a> {
    fn new(server: &'a RedisServer) -> Self {
        server.process().freeze();
        Self(server.process())
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}

#[tokio::test]
async fn an_append_that_is_answered_is_on_the_replica() {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary, &[]);
    let writer = writer(&primary, 1);
    for number in 1..=100 {
        let append = if number % 2 == 0 { append(1) } else { keyed(&[(number, number)]) };
        writer.append(&append).await.unwrap();
        assert_eq!(replica.command::<u128>(&["XLEN", "test:{0}"]), Ok(number));
    }
}

#[tokio::test]
async fn an_append_is_refused_while_too_few_replicas_have_it_and_holds_up_no_other() {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary, &[]);
    let (safe, plain) = (writer(&primary, 1), writer(&primary, 0));
    let first = keyed(&[(7, 7)]);
    safe.append(&first).await.unwrap();

    let frozen = Frozen::new(&replica);
    let started = Instant::now();
    let refused = |append: Append| {
        let safe = &safe;
        async move { safe.append(&append).await.expect_err("no replica has it").to_string() }
    };
    // Each waits on a connection of its own.
    let (one, two, three, other) =
        tokio::join!(refused(append(1)), refused(keyed(&[(1, 1)])), refused(append(1)), async {
            plain.append(&append(1)).await.unwrap();
            plain.pressure().await.unwrap();
            // Nothing is written, so nothing is waited for.
            assert_eq!(safe.append(&keyed(&[(7, 8)])).await.unwrap(), Appended::KeyReused(vec![0]));
            started.elapsed()
        });
    let took = started.elapsed();
    for error in [one, two, three] {
        assert!(error.contains("0 of 1 replicas"), "{error}");
    }
    assert!(took >= TIMEOUT && took < 2 * TIMEOUT, "the three took {took:?}");
    assert!(other < TIMEOUT, "the others took {other:?}");
    drop(frozen);
    wait_for("an append", async || safe.append(&append(1)).await.ok()).await;

    let two = writer(&primary, 2);
    let error = two.append(&append(1)).await.expect_err("there is one replica");
    assert!(matches!(&error, LogError::Unavailable(text) if text.contains("1 of 2 replicas")), "{error}");
}

#[tokio::test]
async fn a_primary_without_an_append_only_file_waits_until_the_replica_has_received_it() {
    let primary = RedisServer::start_with(&["--appendonly", "no"]);
    let _replica = RedisServer::start_replica_of(&primary, &["--appendonly", "no"]);
    writer(&primary, 1).append(&append(1)).await.unwrap();
}
