//! Redis and PostgreSQL away, slow, full or less durable than they must be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_tests::redis::RedisServer;
use sluice_tests::{Backend, Load, LoadOptions, Setup, System};

use crate::monitoring::Monitoring;

/// A load that lets a shared machine do other things too.
pub const GENTLE: LoadOptions =
    LoadOptions { clients: 2, batch: 10, duplicate: 0.3, rest: Duration::from_millis(20), unkeyed: 0 };

fn redis(system: &mut System) -> &mut RedisServer {
    &mut system.servers.as_mut().expect("servers of its own").redis
}

/// Asks for something that only the database knows, again and again, whatever the answers are.
pub fn query_all_the_time(system: &System) -> tokio::task::JoinHandle<()> {
    let client = system.client.clone();
    tokio::spawn(async move {
        loop {
            let _ = client.try_send(client.request("GET", "/topics").timeout(Duration::from_secs(3))).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_away_and_comes_back() {
    let setup = Setup::without_tls(Backend::RedisPostgres).publisher("--append-timeout", "1s").own_servers().await;
    let mut system = setup.start().await;
    let watch = Monitoring::of(&mut system).await;
    let load = Load::start(&system.base(), GENTLE);
    load.more(200).await;
    watch.has_not_fired("SluiceRedisUnavailable");
    redis(&mut system).kill();
    watch.fires("SluiceRedisUnavailable", &[]).await;
    watch.fires("SluicePublishRefused", &[("code", "log_unavailable")]).await;
    redis(&mut system).start_again();
    watch.ends("SluicePublishRefused", &[("code", "log_unavailable")]).await;
    watch.ends("SluiceRedisUnavailable", &[]).await;
    let sent = load.stop().await;
    system.wait_until_stored(sent.accepted).await;
    watch.has_not_fired("SluiceEventsLost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_answers_slowly() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).own_servers().await.start().await;
    let watch = Monitoring::of(&mut system).await;
    let load = Load::start(&system.base(), GENTLE);
    load.more(200).await;
    // Redis is stopped for most of the time: one of a few requests waits for longer than a second.
    let (slow, server) = (Arc::new(AtomicBool::new(true)), system.servers.take().expect("servers of its own"));
    let stop = slow.clone();
    let slowing = tokio::spawn(async move {
        while stop.load(Ordering::Relaxed) {
            server.redis.process().freeze();
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            server.redis.process().resume();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        server
    });
    watch.fires("SluicePublishSlow", &[]).await;
    slow.store(false, Ordering::Relaxed);
    system.servers = Some(slowing.await.expect("the servers"));
    watch.ends("SluicePublishSlow", &[]).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_has_little_memory_left_and_a_setting_that_is_less_durable() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).own_servers().await.start().await;
    let watch = Monitoring::of(&mut system).await;
    let set = |system: &mut System, name: &str, value: &str| {
        redis(system).command::<String>(&["CONFIG", "SET", name, value]).expect("a setting");
    };
    let used: String = redis(&mut system).command(&["INFO", "memory"]).expect("the memory");
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("used_memory");
    let used: u64 = used.trim().parse().expect("a number");
    set(&mut system, "appendfsync", "everysec");
    set(&mut system, "maxmemory", &(used * 100 / 75).to_string());
    watch.fires("SluiceNotDurable", &[("setting", "redis.appendfsync")]).await;
    watch.fires("SluiceRedisMemory", &[]).await;
    set(&mut system, "appendfsync", "always");
    set(&mut system, "maxmemory", "512mb");
    watch.ends("SluiceRedisMemory", &[]).await;
    watch.ends("SluiceNotDurable", &[("setting", "redis.appendfsync")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_away_and_comes_back() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).own_servers().await.start().await;
    let watch = Monitoring::of(&mut system).await;
    // While nothing is published and queried, the maintenance alone tells it.
    system.servers.as_mut().expect("servers").postgres.kill();
    watch.fires("SluiceStuck", &[("reason", "maintenance")]).await;
    system.servers.as_mut().expect("servers").postgres.start_again();
    watch.ends("SluiceStuck", &[("reason", "maintenance")]).await;

    let load = Load::start(&system.base(), LoadOptions { batch: 40, ..GENTLE });
    let queries = query_all_the_time(&system);
    load.more(500).await;
    system.servers.as_mut().expect("servers").postgres.kill();
    watch.fires("SluiceQueriesFail", &[]).await;
    watch.fires("SluiceStuck", &[("reason", "unavailable")]).await;
    watch.fires("SluiceNothingStored", &[]).await;
    watch.fires("SluiceBacklogGrows", &[]).await;
    system.servers.as_mut().expect("servers").postgres.start_again();
    for name in ["SluiceNothingStored", "SluiceStuck", "SluiceBacklogGrows", "SluiceQueriesFail"] {
        watch.ends(name, &[]).await;
    }
    queries.abort();
    let sent = load.stop().await;
    system.wait_until_stored(sent.accepted).await;
}
