//! Streams on the nodes of a cluster: a node that fails, and slots that are moved.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sluice_log::redis::{ReaderSettings, RedisReader, RedisTls, RedisWriter, SentinelLogin, WriterSettings, counters};
use sluice_log::{LogReader, LogWriter};
use sluice_tests::cluster::RedisCluster;

use crate::backends::settings_at;
use crate::support::{append, append_to, bodies, done, fill, keyed, read, wait_for_within};

/// How long a failover and what follows it may take on a busy machine.
const FAILOVER: Duration = Duration::from_secs(120);
/// The streams 0, 1 and 2, whose names must stay the same for ever.
const STREAMS: [&str; 3] = ["test:{0.2322}", "test:{1.9250}", "test:{2.251}"];

fn both(cluster: &RedisCluster, streams: u16) -> (RedisWriter, RedisReader) {
    let (writer, reader) = settings_at(&cluster.url(), "a");
    let writer = RedisWriter::new(WriterSettings { streams, ..writer }).unwrap();
    (writer, RedisReader::new(ReaderSettings { streams, ..reader }).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_streams_are_spread_evenly_over_three_nodes_and_found_by_their_names() {
    let cluster = RedisCluster::start(3, false, &[]);
    let (writer, reader) = both(&cluster, 9);
    let mut appended = Vec::new();
    for stream in 0..9 {
        appended.extend(fill(&writer, stream, 2).await);
    }
    writer.append(&keyed(&[(1, 1)])).await.unwrap();
    for (number, key) in STREAMS.iter().enumerate() {
        let owner = cluster.owner(cluster.slot(key));
        assert_eq!(owner, number, "{key}");
        assert_eq!(cluster.servers[owner].command(&["EXISTS", key]), Ok(1));
    }
    for server in &cluster.servers {
        let keys: Vec<String> = server.command(&["KEYS", "test:*:counts"]).unwrap();
        assert_eq!(keys.len(), 3, "{keys:?}");
    }
    let got = read(&reader, 19).await;
    assert_eq!(bodies(&got).into_iter().collect::<HashSet<_>>().len(), 19);
    assert_eq!(reader.deliveries(&crate::support::positions(&got)).await.unwrap(), [1; 19]);
    let pressure = writer.pressure().await.unwrap();
    assert_eq!(pressure.backlog, Some(19));
    assert_eq!(reader.acknowledge(&done(&got)).await.unwrap(), 19);
    assert_eq!(reader.trim().await.unwrap(), 19);
    let (url, login) = (cluster.url(), SentinelLogin::default());
    let counters = counters((&url, &RedisTls::default(), &login), "test", 1).await.unwrap();
    assert_eq!((counters.appended, counters.acknowledged), (Some(19), Some(19)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fullest_node_is_what_the_pressure_is_about() {
    let cluster = RedisCluster::start(3, false, &[]);
    let (writer, _) = both(&cluster, 3);
    fill(&writer, 1, 1).await;
    let _: String = cluster.servers[1].command(&["CONFIG", "SET", "maxmemory", "20mb"]).unwrap();
    let of_node = writer.pressure().await.unwrap().memory.unwrap();
    let _: String = cluster.servers[1].command(&["CONFIG", "SET", "maxmemory", "2gb"]).unwrap();
    let of_others = writer.pressure().await.unwrap().memory.unwrap();
    assert!(of_node > 5.0 * of_others, "{of_node} and {of_others}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_waits_gets_what_comes_on_any_node_and_leaves_nothing_pending() {
    let cluster = RedisCluster::start(3, false, &[]);
    let (writer, reader) = both(&cluster, 3);
    assert!(reader.read_new(10, Duration::ZERO).await.unwrap().is_empty());
    for stream in [0, 1, 2, 1] {
        let started = Instant::now();
        let (read, appended) = tokio::join!(reader.read_new(10, Duration::from_secs(60)), async {
            let blocked = || {
                let blocks = |server: &sluice_tests::redis::RedisServer| {
                    server.command::<String>(&["INFO", "clients"]).is_ok_and(|info| info.contains("blocked_clients:1"))
                };
                cluster.servers.iter().all(blocks).then_some(())
            };
            wait_for_within(FAILOVER, "a read of each stream waits", async || blocked()).await;
            fill(&writer, stream, 1).await
        });
        assert_eq!(bodies(&read.unwrap()), appended);
        assert!(started.elapsed() < Duration::from_secs(50), "the others were waited for");
    }
    assert_eq!(reader.backlog().await.unwrap().pending, 4);

    // The reads that wait on the other nodes get entries at the same moment, and must not be given up.
    for round in 0..30 {
        let (read, appended) = tokio::join!(reader.read_new(10, Duration::from_secs(5)), async {
            let (one, two, three) = tokio::join!(fill(&writer, 0, 1), fill(&writer, 1, 1), fill(&writer, 2, 1));
            [one, two, three].concat()
        });
        let mut got: HashSet<_> = bodies(&read.unwrap()).into_iter().collect();
        while got.len() < 3 {
            let more = reader.read_new(10, Duration::from_secs(5)).await.unwrap();
            assert!(!more.is_empty(), "round {round}: {} of 3 entries were read, the others are pending", got.len());
            got.extend(bodies(&more));
        }
        assert_eq!(got, appended.into_iter().collect());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_node_is_killed_the_other_streams_go_on_and_its_own_go_on_with_its_replica() {
    let mut cluster = RedisCluster::start(3, true, &[]);
    let (writer, reader) = both(&cluster, 3);
    let mut appended = HashSet::new();
    for stream in 0..3 {
        appended.extend(fill(&writer, stream, 5).await);
    }
    let mut got: HashSet<_> = bodies(&read(&reader, 15).await).into_iter().collect();
    let slot = cluster.slot(STREAMS[1]);
    let killed = cluster.owner(slot);
    let replicated = async || cluster.servers[killed].command::<u64>(&["WAIT", "1", "1000"]).ok().filter(|&n| n == 1);
    wait_for_within(FAILOVER, "the replica", replicated).await;
    let started = Instant::now();
    cluster.servers[killed].kill();

    for stream in [0, 2] {
        let append = append_to(stream, 1);
        wait_for_within(FAILOVER, "an append on another node", async || writer.append(&append).await.ok()).await;
        let read = wait_for_within(FAILOVER, "a read", async || {
            reader.read_new(10, Duration::from_millis(100)).await.ok().filter(|read| !read.is_empty())
        });
        assert_eq!(bodies(&read.await), std::slice::from_ref(&append.entry.body));
        appended.insert(append.entry.body.clone());
        got.insert(append.entry.body);
    }
    assert!(started.elapsed() < FAILOVER);
    let append = append_to(1, 1);
    wait_for_within(FAILOVER, "an append on its replica", async || writer.append(&append).await.ok()).await;
    appended.insert(append.entry.body);
    while got != appended {
        assert!(started.elapsed() < 2 * FAILOVER, "{} of {} entries were read", got.len(), appended.len());
        got.extend(bodies(&reader.read_new(10, Duration::from_millis(100)).await.unwrap_or_default()));
    }

    // The node returns as a replica, and nobody writes to it.
    cluster.servers[killed].start_again();
    cluster.wait_until_replica(killed);
    for stream in 0..3 {
        let append = append_to(stream, 1);
        wait_for_within(FAILOVER, "an append", async || writer.append(&append).await.ok()).await;
    }
    assert_eq!(read(&reader, 3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_read_twice_while_a_slot_is_moved_key_by_key() {
    let cluster = RedisCluster::start(3, false, &[]);
    let (writer, reader) = both(&cluster, 3);
    let slot = cluster.slot(STREAMS[0]);
    fill(&writer, 0, 1).await;
    read(&reader, 1).await;
    let (is_over, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));

    let writing = async {
        let mut appended = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let append = if appended.len() % 2 == 0 { append(1) } else { keyed(&[(appended.len() as u128, 1)]) };
            // The same append is repeated until it is answered, as the publisher does.
            wait_for_within(FAILOVER, "an append", async || writer.append(&append).await.ok()).await;
            appended.push(append.entry.body);
        }
        appended
    };
    let reading = async {
        let mut got = Vec::new();
        let mut idle = 0;
        while idle < 20 {
            let Ok(read) = reader.read_new(10, Duration::from_millis(50)).await else { continue };
            idle = if read.is_empty() && is_over.load(Ordering::Relaxed) { idle + 1 } else { 0 };
            let acknowledge = async || reader.acknowledge(&done(&read)).await.ok();
            wait_for_within(FAILOVER, "an acknowledgement", acknowledge).await;
            got.extend(bodies(&read));
            acknowledged.store(got.len(), Ordering::Relaxed);
        }
        got
    };
    let moving = async {
        for to in [1, 2, 0] {
            let moved = cluster.begin_move(slot, to);
            loop {
                // Between two keys, requests are redirected or have to wait.
                tokio::time::sleep(Duration::from_millis(100)).await;
                if !moved.one_key() {
                    break;
                }
            }
            moved.finish();
            let goal = acknowledged.load(Ordering::Relaxed) + 10;
            let goes_on = async || (acknowledged.load(Ordering::Relaxed) >= goal).then_some(());
            wait_for_within(FAILOVER, "entries on the new owner", goes_on).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let (appended, got, ()) = tokio::join!(writing, reading, moving);
    assert!(appended.len() > 20, "only {} appends", appended.len());
    assert_eq!(got.len(), appended.len());
    assert_eq!(got.into_iter().collect::<HashSet<_>>(), appended.into_iter().collect());
    assert_eq!(reader.backlog().await.unwrap().events, Some(1));
    assert_eq!(cluster.owner(slot), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_of_one_server_that_is_a_node_of_a_cluster_is_explained() {
    let cluster = RedisCluster::start(3, false, &[]);
    let mut refusals = Vec::new();
    for server in &cluster.servers {
        let writer = RedisWriter::new(settings_at(&server.url(), "a").0).unwrap();
        refusals.extend(writer.append(&append(1)).await.err());
    }
    assert!(refusals.len() >= 2, "a node accepted a stream of another one");
    assert!(refusals.iter().all(|refused| refused.to_string().contains("redis+cluster://")), "{refusals:?}");
}
