//! Tests with a Redis server that is stopped, frozen, killed or demoted, or that has lost its scripts.

use std::time::{Duration, Instant};

use sluice_log::redis::{ReaderSettings, RedisReader, RedisWriter, WriterSettings};
use sluice_log::{Appended, LogError, LogReader, LogWriter};

use crate::backends::settings;
use crate::support::{RedisServer, append, bodies, done, fill, keyed, read, wait_for};

#[tokio::test]
async fn a_writer_and_a_reader_can_be_made_while_redis_is_away_and_work_when_it_comes() {
    let mut server = RedisServer::start().await;
    server.kill();
    let (writer, reader) = settings(&server, "a");
    let (writer, reader) = (RedisWriter::new(writer).unwrap(), RedisReader::new(reader).unwrap());

    for _ in 0..20 {
        let started = Instant::now();
        let refused = writer.append(&append(1)).await;
        assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
        assert!(started.elapsed() < Duration::from_secs(1), "refusing took {:?}", started.elapsed());
    }
    assert!(matches!(reader.read_new(1, Duration::from_secs(5)).await, Err(LogError::Unavailable(_))));
    assert!(matches!(reader.ping().await, Err(LogError::Unavailable(_))));

    server.start_again().await;
    wait_for("the append", async || writer.append(&append(1)).await.ok()).await;
    wait_for("the entry", async || reader.read_new(1, Duration::ZERO).await.ok().filter(|read| read.len() == 1)).await;
}

#[tokio::test]
async fn a_killed_redis_comes_back_with_all_that_was_answered() {
    let mut server = RedisServer::start().await;
    let (writer, reader) = settings(&server, "a");
    let (writer, reader) = (RedisWriter::new(writer).unwrap(), RedisReader::new(reader).unwrap());
    let mut appended = fill(&writer, 0, 20).await;
    let mut got = read(&reader, 5).await;
    reader.acknowledge(&done(&got[..2])).await.unwrap();

    // A read that blocks when the server is killed returns an error and does not hang.
    let blocked = async {
        let empty = RedisReader::new(ReaderSettings { prefix: "empty".into(), ..settings(&server, "a").1 }).unwrap();
        empty.read_new(1, Duration::from_secs(60)).await
    };
    let pid = server.info("process_id").await.to_string();
    let killing = async {
        wait_for("the read to block", async || (server.info("blocked_clients").await == 1).then_some(())).await;
        assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    };
    let (blocked, ()) = futures::join!(blocked, killing);
    assert!(matches!(blocked, Err(LogError::Unavailable(_))), "{blocked:?}");
    server.kill();
    server.start_again().await;

    let again = append(1);
    wait_for("the append", async || writer.append(&again).await.ok()).await;
    appended.push(again.entry.body);
    got.extend(wait_for("the reader", async || reader.read_new(1, Duration::ZERO).await.ok()).await);
    got.extend(read(&reader, 21 - got.len()).await);
    assert_eq!(bodies(&got), appended);
    // The first command on a broken connection returns an error; the next one opens a new connection.
    let acknowledged = wait_for("the acknowledgement", async || reader.acknowledge(&done(&got)).await.ok()).await;
    assert_eq!(acknowledged, 19);
    assert_eq!(reader.backlog().await.unwrap().events, Some(0));
}

#[tokio::test]
async fn a_frozen_redis_is_unavailable_and_not_waited_for_for_ever() {
    let server = RedisServer::start().await;
    let (writer, reader) = settings(&server, "a");
    let (writer, reader) = (RedisWriter::new(writer).unwrap(), RedisReader::new(reader).unwrap());
    fill(&writer, 0, 1).await;
    read(&reader, 1).await;

    server.signal("STOP");
    let started = Instant::now();
    let (append_1, append_2) = (append(1), append(1));
    let (one, two, read) =
        futures::join!(writer.append(&append_1), writer.append(&append_2), reader.read_new(1, Duration::from_secs(1)),);
    let took = started.elapsed();
    server.signal("CONT");
    for outcome in [one.err(), two.err(), read.err()] {
        assert!(matches!(outcome, Some(LogError::Unavailable(_))), "{outcome:?}");
    }
    assert!(took < Duration::from_secs(9), "it took {took:?}");
    wait_for("the append", async || writer.append(&append(1)).await.ok()).await;
    wait_for("the read", async || reader.read_new(1, Duration::ZERO).await.ok()).await;
}

#[tokio::test]
async fn a_redis_that_was_demoted_is_unavailable() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "a").0).unwrap();
    fill(&writer, 0, 1).await;
    // The server becomes the replica of a primary that does not exist, and serves its data read-only.
    let _: String = server.command("REPLICAOF 127.0.0.1 1").await;
    let refused = writer.append(&append(1)).await;
    assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
    let _: String = server.command("REPLICAOF NO ONE").await;
    wait_for("the append", async || writer.append(&append(1)).await.ok()).await;
}

#[tokio::test]
async fn a_read_that_waits_ends_when_its_redis_is_demoted_and_a_replica_is_not_read_from() {
    let server = RedisServer::start().await;
    let (writer, reader) = settings(&server, "a");
    let (writer, reader) = (RedisWriter::new(writer).unwrap(), RedisReader::new(reader).unwrap());
    fill(&writer, 0, 1).await;
    read(&reader, 1).await;
    let demoting = async {
        wait_for("the read to block", async || (server.info("blocked_clients").await == 1).then_some(())).await;
        let _: String = server.command("REPLICAOF 127.0.0.1 1").await;
    };
    let (blocked, ()) = futures::join!(reader.read_new(1, Duration::from_secs(60)), demoting);
    assert!(matches!(blocked, Err(LogError::Unavailable(_))), "{blocked:?}");
    // Everything that only reads would work, with what is old.
    let fresh = RedisReader::new(settings(&server, "b").1).unwrap();
    for reader in [&reader, &fresh] {
        let refused = wait_for("a refusal", async || reader.ping().await.err()).await;
        assert!(refused.to_string().contains("a replica of 127.0.0.1:1"), "{refused}");
    }
    let _: String = server.command("REPLICAOF NO ONE").await;
    wait_for("the backlog", async || reader.backlog().await.ok()).await;
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_loaded_again() {
    let server = RedisServer::start().await;
    let (writer, reader) = settings(&server, "a");
    let (writer, reader) = (RedisWriter::new(writer).unwrap(), RedisReader::new(reader).unwrap());
    for round in 1..=3 {
        let appended = writer.append(&append(1)).await.unwrap();
        assert_eq!(appended, Appended::Stored { backlog: Some(1) }, "round {round}");
        let _: String = server.command("SCRIPT FLUSH").await;
        let read = read(&reader, 1).await;
        assert_eq!(reader.acknowledge(&done(&read)).await.unwrap(), 1, "round {round}");
        let _: String = server.command("SCRIPT FLUSH").await;
    }
}

#[tokio::test]
async fn a_user_and_its_password_come_from_the_url() {
    let server = RedisServer::start().await;
    let _: String = server.command("ACL SETUSER sluice on >secret ~test:* &* +@all").await;
    let _: String = server.command("ACL SETUSER default resetpass >other").await;
    let with = |credentials: &str| format!("redis://{credentials}127.0.0.1:{}/", server.port);
    let writer = |url| RedisWriter::new(WriterSettings { url, ..settings(&server, "a").0 }).unwrap();
    for url in [with(""), with("sluice:wrong@"), with("nobody:secret@")] {
        let writer = writer(url);
        // The second is refused without asking, because the server has just refused the first.
        for _ in 0..2 {
            let refused = writer.append(&append(1)).await;
            assert!(matches!(refused, Err(LogError::Unauthenticated(_))), "{refused:?}");
            let text = refused.unwrap_err().to_string();
            assert!(!text.contains("wrong@"), "the message contains a password: {text}");
        }
    }
    for url in [with(":other@"), with("sluice:secret@")] {
        writer(url).append(&append(1)).await.unwrap();
    }
    let url = with("sluice:secret@");
    let reader = RedisReader::new(ReaderSettings { url, ..settings(&server, "a").1 }).unwrap();
    assert_eq!(read(&reader, 2).await.len(), 2);
}

#[tokio::test]
async fn a_url_that_cannot_be_one_is_refused_at_once() {
    let server = RedisServer::start().await;
    let bad = WriterSettings { url: "http://127.0.0.1".into(), ..settings(&server, "a").0 };
    assert!(matches!(RedisWriter::new(bad), Err(LogError::Failed(_))));
}

#[tokio::test]
async fn the_newer_protocol_serves_as_well() {
    let server = RedisServer::start().await;
    let url = format!("{}?protocol=resp3", server.url());
    let (writer, reader) = settings(&server, "a");
    let writer = RedisWriter::new(WriterSettings { url: url.clone(), ..writer }).unwrap();
    let reader = RedisReader::new(ReaderSettings { url, ..reader }).unwrap();
    let appended = fill(&writer, 0, 4).await;
    let got = read(&reader, 4).await;
    assert_eq!(bodies(&got), appended);
    assert_eq!(reader.read_own_pending(None, 10).await.unwrap(), got);
    assert_eq!(reader.claim(Duration::ZERO, 10).await.unwrap().entries, got);
    assert_eq!(reader.deliveries(&crate::support::positions(&got)).await.unwrap(), [3; 4]);
    reader.extend_claim(&crate::support::positions(&got)).await.unwrap();
    assert_eq!(reader.backlog().await.unwrap().lag, Some(0));
    assert_eq!(reader.consumers().await.unwrap().len(), 1);
    assert_eq!(reader.acknowledge(&done(&got)).await.unwrap(), 4);
    assert_eq!(reader.trim().await.unwrap(), 4);
    assert_eq!(writer.pressure().await.unwrap().backlog, Some(0));
    assert!(reader.leave().await.unwrap());
}

#[tokio::test]
async fn what_is_kept_in_redis_is_named_as_documented() {
    let server = RedisServer::start().await;
    let writer = RedisWriter::new(settings(&server, "a").0).unwrap();
    let (key, hash) = (0xabc, 2);
    let append = keyed(&[(key, hash)]);
    writer.append(&append).await.unwrap();

    let mut keys: Vec<String> = server.command("KEYS *").await;
    keys.sort();
    assert_eq!(keys, ["test:streams", "test:{0}", "test:{0}:counts", "test:{0}:keys:newer"]);
    let record = redis::cmd("HGET").arg("test:{0}:keys:newer").arg(&u128::to_be_bytes(key)).to_owned();
    let body: Vec<u8> = record.query_async(&mut server.raw().await).await.unwrap();
    assert_eq!(body, u128::to_be_bytes(hash));
    // Twice the time to live: a record made at the end of the first lives on in the older hash.
    let left: u64 = server.command("PTTL test:{0}:keys:newer").await;
    assert!((7_100_000..=7_200_000).contains(&left), "{left} ms are left");
    let entries: Vec<(String, Vec<Vec<u8>>)> = server.command("XRANGE test:{0} - +").await;
    assert_eq!(entries[0].1, [b"e".to_vec(), append.entry.body, b"n".to_vec(), b"1".to_vec()]);
    assert_eq!(server.command::<u64>("HGET test:{0}:counts appended").await, 1);
    assert_eq!(server.command::<u64>("GET test:streams").await, 1);
}

#[tokio::test]
async fn an_entry_that_is_not_ours_is_delivered_to_be_set_aside() {
    let server = RedisServer::start().await;
    let reader = RedisReader::new(settings(&server, "a").1).unwrap();
    let _: String = server.command("XADD test:{0} * foreign entry n lots").await;
    let read = read(&reader, 1).await;
    assert!(read[0].body.is_empty());
    assert_eq!(read[0].events, 0);
    assert_eq!(reader.acknowledge(&done(&read)).await.unwrap(), 1);
}

#[tokio::test]
async fn the_number_of_events_of_an_entry_that_is_not_ours_is_bounded() {
    let server = RedisServer::start().await;
    let (writer, reader) = settings(&server, "a");
    let (writer, reader) = (RedisWriter::new(writer).unwrap(), RedisReader::new(reader).unwrap());
    let _: String = server.command("XADD test:{0} * e x n 18446744073709551615").await;
    writer.append(&keyed(&[(1, 1)])).await.unwrap();
    let read = read(&reader, 2).await;
    assert_eq!(read[0].events, 1_000_000);
    assert_eq!(reader.acknowledge(&done(&read)).await.unwrap(), 2);
    assert_eq!(reader.backlog().await.unwrap().pending, 0);
}
