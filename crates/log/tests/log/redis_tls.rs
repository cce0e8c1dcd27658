//! TLS to Redis: what connects, and what each fault is called.

use std::path::Path;
use std::time::{Duration, Instant};

use sluice_log::redis::{ReaderSettings, RedisReader, RedisTls, RedisWriter, SentinelLogin, WriterSettings};
use sluice_log::{LogError, LogReader, LogWriter};
use sluice_service::durability::Requirement;
use sluice_tests::certificates::{Authority, HOST, Identity};
use sluice_tests::cluster::RedisCluster;
use sluice_tests::redis::RedisServer;

use crate::backends::settings_at;
use crate::support::{append, bodies, done, fill, read, wait_for};

fn trusting(ca: &Path) -> RedisTls {
    RedisTls { ca: Some(ca.to_owned()), ..RedisTls::default() }
}

fn with_identity(ca: &Path, identity: &Identity) -> RedisTls {
    RedisTls { cert: Some(identity.cert.clone()), key: Some(identity.key.clone()), ..trusting(ca) }
}

fn writer(url: &str, tls: RedisTls) -> RedisWriter {
    RedisWriter::new(WriterSettings { tls, ..settings_at(url, "a").0 }).unwrap()
}

/// Returns the error with which a writer cannot append, after at most a few seconds.
async fn refused(url: &str, tls: RedisTls) -> String {
    let started = Instant::now();
    let error = writer(url, tls).append(&append(1)).await.expect_err("a connection");
    assert!(started.elapsed() < Duration::from_secs(9), "it took {:?}", started.elapsed());
    assert!(matches!(error, LogError::Unavailable(_)), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn both_sides_of_the_log_work_over_tls_and_with_certificates_of_clients() {
    let ca = Authority::new();
    let (server, client) = (ca.issue(HOST), ca.issue("client.example"));
    for client_ca in [None, Some(ca.ca())] {
        let redis = RedisServer::start_with_tls(&server, client_ca);
        let tls = if client_ca.is_some() { with_identity(ca.ca(), &client) } else { trusting(ca.ca()) };
        assert_eq!(
            sluice_log::redis::check_connection(&redis.tls_url(), &tls, &SentinelLogin::default(), true),
            Ok(())
        );
        let (_, reader) = settings_at(&redis.tls_url(), "a");
        let writer = writer(&redis.tls_url(), tls.clone());
        let reader = RedisReader::new(ReaderSettings { tls, ..reader }).unwrap();
        let appended = fill(&writer, 0, 3).await;
        let got = read(&reader, 3).await;
        assert_eq!(bodies(&got), appended);
        assert_eq!(reader.acknowledge(&done(&got)).await.unwrap(), 3);
    }
}

#[tokio::test]
async fn each_fault_of_the_certificates_has_an_error_that_says_what_helps() {
    let (ca, other) = (Authority::new(), Authority::new());
    let trusted = trusting(ca.ca());
    let at = |identity: &Identity| RedisServer::start_with_tls(identity, None);

    let redis = at(&ca.issue(HOST));
    let error = refused(&redis.tls_url(), trusting(other.ca())).await;
    assert!(error.contains("is not from a trusted CA: give the CA with --redis-ca"), "{error}");
    // The CAs of the system do not know it either.
    let error = refused(&redis.tls_url(), RedisTls::default()).await;
    assert!(error.contains("is not from a trusted CA: give the CA with --redis-ca"), "{error}");

    let redis = at(&ca.issue("elsewhere.example"));
    let error = refused(&redis.tls_url(), trusted.clone()).await;
    let names = "is not for 127.0.0.1, the host in --redis-url, but for elsewhere.example";
    assert!(error.contains(names), "{error}");

    let redis = at(&ca.issue_expired());
    let error = refused(&redis.tls_url(), trusted).await;
    assert!(error.contains("the certificate of Redis has expired: Redis needs a new one"), "{error}");

    let redis = at(&ca.issue_not_valid_yet());
    let error = refused(&redis.tls_url(), trusting(ca.ca())).await;
    assert!(error.contains("the certificate of Redis is not valid yet: compare the clocks of both hosts"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_written_and_read_over_tls_also_after_a_slot_has_moved() {
    let ca = Authority::new();
    let cluster = RedisCluster::start_with_tls(3, &ca.issue(HOST), ca.ca());
    let url = cluster.tls_url();
    let tls = with_identity(ca.ca(), &ca.issue("client.example"));
    assert_eq!(sluice_log::redis::check_connection(&url, &tls, &SentinelLogin::default(), true), Ok(()));
    let (writer, reader) = settings_at(&url, "a");
    let writer = RedisWriter::new(WriterSettings { tls: tls.clone(), streams: 3, ..writer }).unwrap();
    let reader = RedisReader::new(ReaderSettings { tls, streams: 3, ..reader }).unwrap();
    for stream in 0..3 {
        fill(&writer, stream, 2).await;
    }
    let got = read(&reader, 6).await;
    assert_eq!(reader.acknowledge(&done(&got)).await.unwrap(), 6);
    for server in &cluster.servers {
        let keys: Vec<String> = server.command(&["KEYS", "test:*:counts"]).unwrap();
        assert_eq!(keys.len(), 1, "each node has a stream: {keys:?}");
    }
    // The owner names the next one with its port for TLS.
    let slot = cluster.slot("test:{0.2322}");
    let to = (cluster.owner(slot) + 1) % 3;
    cluster.begin_move(slot, to).finish();
    let appended = fill(&writer, 0, 2).await;
    assert_eq!(cluster.owner(slot), to);
    assert_eq!(bodies(&read(&reader, 2).await), appended);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_the_certificates_of_a_cluster_has_an_error_that_says_what_helps() {
    let (ca, other) = (Authority::new(), Authority::new());
    let client = ca.issue("client.example");
    let cluster = RedisCluster::start_with_tls(1, &ca.issue(HOST), ca.ca());
    for (tls, reason) in [
        (with_identity(other.ca(), &client), "is not from a trusted CA: give the CA with --redis-ca"),
        (trusting(ca.ca()), "demands a certificate of the client: give it with --redis-cert"),
        (with_identity(ca.ca(), &other.issue("client.example")), "refuses the certificate of the client"),
    ] {
        let error = refused(&cluster.tls_url(), tls).await;
        assert!(error.contains(reason), "{error}");
    }
    let elsewhere = cluster.tls_url().replace("127.0.0.1", "localhost");
    let error = refused(&elsewhere, with_identity(ca.ca(), &client)).await;
    assert!(error.contains("is not for localhost, the host in --redis-url, but for 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_the_client_that_is_missing_or_from_another_ca_is_named() {
    let (ca, other) = (Authority::new(), Authority::new());
    let redis = RedisServer::start_with_tls(&ca.issue(HOST), Some(ca.ca()));
    let error = refused(&redis.tls_url(), trusting(ca.ca())).await;
    assert!(error.contains("demands a certificate of the client: give it with --redis-cert"), "{error}");
    let error = refused(&redis.tls_url(), with_identity(ca.ca(), &other.issue("client.example"))).await;
    assert!(error.contains("refuses the certificate of the client, --redis-cert and --redis-key"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_and_one_with_tls_are_told_apart() {
    let ca = Authority::new();
    let redis = RedisServer::start_with_tls(&ca.issue(HOST), None);
    let plain_port = redis.url().replace("redis://", "rediss://");
    let error = refused(&plain_port, trusting(ca.ca())).await;
    assert!(error.contains("offer TLS at the port in --redis-url"), "{error}");
    let tls_port = redis.tls_url().replace("rediss://", "redis://");
    let error = refused(&tls_port, RedisTls::default()).await;
    assert!(error.contains("--redis-url must begin with rediss://"), "{error}");
}

#[tokio::test]
async fn files_are_read_at_each_connection_so_that_they_can_be_replaced() {
    let (ca, other) = (Authority::new(), Authority::new());
    let mut redis = RedisServer::start_with_tls(&ca.issue(HOST), Some(ca.ca()));
    let client = ca.issue("client.example");
    let tls = with_identity(ca.ca(), &client);
    let writer = writer(&redis.tls_url(), tls);
    fill(&writer, 0, 1).await;

    let good = std::fs::read(&client.cert).unwrap();
    std::fs::copy(other.issue("client.example").cert, &client.cert).unwrap();
    redis.kill();
    redis.start_again();
    let error = wait_for("the new file is read", async || {
        let error = writer.append(&append(1)).await.err()?.to_string();
        error.contains("--redis-cert").then_some(error)
    });
    assert!(error.await.contains("--redis-key"));
    std::fs::write(&client.cert, good).unwrap();
    wait_for("the append", async || writer.append(&append(1)).await.ok()).await;
}

#[tokio::test]
async fn only_a_connection_that_leaves_the_host_without_tls_is_noted() {
    let ca = Authority::new();
    let redis = RedisServer::start_with_tls(&ca.issue(HOST), None);
    // The system resolves this name to the loopback interface, but the program cannot know that.
    let elsewhere = redis.url().replace("127.0.0.1", "127.1");
    for (url, noted) in [(redis.url(), false), (elsewhere, true), (redis.tls_url(), false)] {
        let files = if url.starts_with("rediss") { trusting(ca.ca()) } else { RedisTls::default() };
        let writer = writer(&url, files);
        writer.append(&append(1)).await.unwrap();
        let requirement = Requirement { encryption: vec![writer.encryption()], ..Requirement::default() };
        let expected = noted.then(|| "the connection to Redis is not encrypted and leaves this host".to_owned());
        assert_eq!(requirement.check(), Ok(expected.into_iter().collect()), "{url}");
    }
}
