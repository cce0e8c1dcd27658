//! A primary that Sentinels watch, and its failovers.

use std::time::{Duration, Instant};

use sluice_log::redis::{ReaderSettings, RedisReader, RedisTls, RedisWriter, SentinelLogin, WriterSettings};
use sluice_log::{LogError, LogReader, LogWriter};
use sluice_tests::certificates::{Authority, HOST};
use sluice_tests::sentinels::WatchedRedis;

use crate::backends::settings_at;
use crate::support::{append, bodies, done, fill, read, wait_for_within};

/// How long a failover and what follows it may take on a busy machine.
const FAILOVER: Duration = Duration::from_secs(120);

fn login(password: Option<&str>) -> SentinelLogin {
    SentinelLogin { user: None, password: password.map(str::to_owned) }
}

fn both(url: &str, sentinel: &SentinelLogin) -> (RedisWriter, RedisReader) {
    let (writer, reader) = settings_at(url, "a");
    let writer = RedisWriter::new(WriterSettings { sentinel: sentinel.clone(), ..writer }).unwrap();
    (writer, RedisReader::new(ReaderSettings { sentinel: sentinel.clone(), ..reader }).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_primary_is_killed_both_sides_go_on_with_the_one_that_the_sentinels_name() {
    let mut watched = WatchedRedis::start(2, &[], Some("of-sentinels"));
    let (writer, reader) = both(&watched.url(), &login(Some("of-sentinels")));
    let mut appended = fill(&writer, 0, 20).await;
    let mut got = read(&reader, 5).await;
    reader.acknowledge(&done(&got[..2])).await.unwrap();
    watched.wait_until_replicated();

    let old = watched.kill_primary();
    let again = append(1);
    wait_for_within(FAILOVER, "an append", async || writer.append(&again).await.ok()).await;
    appended.push(again.entry.body);
    got.extend(wait_for_within(FAILOVER, "a read", async || reader.read_new(1, Duration::ZERO).await.ok()).await);
    got.extend(read(&reader, 21 - got.len()).await);
    assert_eq!(bodies(&got), appended);
    // The first command on a broken connection returns an error; the next one opens a new connection.
    let acknowledge = async || reader.acknowledge(&done(&got)).await.ok();
    assert_eq!(wait_for_within(FAILOVER, "the acknowledgement", acknowledge).await, 19);

    // The server that was the primary returns, is demoted, and nobody writes to it.
    watched.servers[old].start_again();
    let server = &watched.servers[old];
    let is_replica = async || server.command::<redis::Role>(&["ROLE"]).ok().filter(is_a_replica);
    wait_for_within(FAILOVER, "the old primary to be a replica", is_replica).await;
    wait_for_within(FAILOVER, "an append", async || writer.append(&append(1)).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waits_leaves_a_primary_that_is_demoted_while_nobody_writes() {
    let watched = WatchedRedis::start(1, &[], None);
    let (writer, reader) = both(&watched.url(), &SentinelLogin::default());
    fill(&writer, 0, 1).await;
    assert_eq!(read(&reader, 1).await.len(), 1);
    watched.wait_until_replicated();
    let old = watched.primary();

    let waiting = async {
        // It would wait for an hour on the connection to the server that is a replica now.
        let ended = reader.read_new(1, Duration::from_secs(3600)).await;
        assert!(matches!(ended, Err(LogError::Unavailable(_))), "{ended:?}");
        wait_for_within(FAILOVER, "the new primary", async || reader.read_new(1, Duration::ZERO).await.ok()).await;
    };
    let failover = async {
        let server = &watched.servers[old];
        let blocked =
            async || server.command::<String>(&["INFO", "clients"]).ok().filter(|i| i.contains("blocked_clients:1"));
        wait_for_within(FAILOVER, "the read to block", blocked).await;
        watched.fail_over();
        watched.wait_for_failover_from(old);
    };
    let ended = tokio::time::timeout(FAILOVER, async { tokio::join!(waiting, failover) }).await;
    assert!(ended.is_ok(), "the reader still waits");
    assert_ne!(watched.primary(), old);
    assert_eq!(reader.backlog().await.unwrap().pending, 1, "the new primary has the group");

    // The writer has only read meanwhile, which a replica allows.
    wait_for_within(FAILOVER, "an append", async || writer.append(&append(1)).await.ok()).await;
    let clients: String = watched.servers[old].command(&["CLIENT", "LIST", "TYPE", "normal"]).unwrap();
    let ours = clients.lines().filter(|line| !line.contains("name=sentinel") && !line.contains("cmd=client|list"));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new(), "nobody stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_that_are_away_or_silent_are_passed_over() {
    let mut watched = WatchedRedis::start(1, &[], None);
    watched.kill_sentinel(0);
    watched.freeze_sentinel(1);
    let (writer, _) = both(&watched.url(), &SentinelLogin::default());
    let started = Instant::now();
    fill(&writer, 0, 1).await;
    assert!(started.elapsed() < Duration::from_secs(9), "it took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_sentinels_from_naming_the_primary_is_said() {
    let mut watched = WatchedRedis::start(1, &[], Some("secret"));
    let refusal = async |url: String, password: Option<&str>| {
        let (writer, reader) = both(&url, &login(password));
        let refused = writer.append(&append(1)).await.unwrap_err();
        assert!(reader.ping().await.is_err());
        refused
    };
    for password in [None, Some("wrong")] {
        let refused = refusal(watched.url(), password).await;
        assert!(matches!(refused, LogError::Unauthenticated(_)), "{refused}");
        assert!(refused.to_string().contains("--redis-sentinel-password"), "{refused}");
    }
    let refused = refusal(watched.url().replace("/shop", "/other"), Some("secret")).await;
    assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
    assert!(refused.to_string().contains("it does not know \"other\""), "{refused}");
    let refused = refusal(watched.url().replace("//", "//:of-servers@"), Some("secret")).await;
    assert!(matches!(refused, LogError::Unauthenticated(_)), "{refused}");
    assert!(!refused.to_string().contains("--redis-sentinel-password"), "{refused}");
    // A URL that names a Sentinel as if it were the server.
    let one = watched.url().replace("+sentinel", "").replace("//", "//:secret@");
    let one = format!("{}/", one.split(',').next().unwrap());
    let refused = refusal(one, None).await;
    assert!(refused.to_string().contains("--redis-url must begin with redis+sentinel://"), "{refused}");
    watched.servers[0].kill();
    watched.servers[1].kill();
    let refused = refusal(watched.url(), Some("secret")).await;
    assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_servers_are_reached_over_tls() {
    let ca = Authority::new();
    let watched = WatchedRedis::start_with_tls(&ca.issue(HOST), ca.ca());
    let url = watched.url().replace("redis+", "rediss+");
    let (writer, _) = settings_at(&url, "a");
    let writer = |tls| RedisWriter::new(WriterSettings { tls, ..writer.clone() }).unwrap();
    let trusting = writer(RedisTls { ca: Some(ca.ca().to_owned()), ..RedisTls::default() });
    wait_for_within(FAILOVER, "an append", async || trusting.append(&append(1)).await.ok()).await;
    let refused = writer(RedisTls::default()).append(&append(1)).await.unwrap_err();
    assert!(refused.to_string().contains("--redis-ca"), "{refused}");
}

fn is_a_replica(role: &redis::Role) -> bool {
    matches!(role, redis::Role::Replica { .. })
}
