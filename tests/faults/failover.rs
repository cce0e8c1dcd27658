//! PostgreSQL loses commits whose entries were acknowledged: in a failover, or because a backup was restored.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sluice_tests::postgres::PostgresServer;
use sluice_tests::redis::RedisServer;
use sluice_tests::store::StoreAddress;
use sluice_tests::system::OwnServers;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, Snapshot, StoreReader, System, TableLock, dirs, metrics, wait_until};

use crate::trial::{SOON, Trial, cluster};

const LOSSES: &str = "sluice_store_losses_total";
const REPLAYED: &str = "sluice_entries_replayed_total";
const PENDING: &str = "sluice_replay_pending";
/// The numbers of the aggregators.
pub const ALL: [usize; 3] = [0, 1, 2];

/// Returns a running standby of the system's server.
pub fn standby_of(setup: &Setup) -> PostgresServer {
    tokio::task::block_in_place(|| setup.servers().postgres.standby())
}

/// Returns what a server has stored of a system.
pub async fn stored_by(server: &PostgresServer, system: &System) -> Snapshot {
    let StoreAddress::Postgres { schema, .. } = &system.store else { unreachable!("it is in Postgres") };
    let address = StoreAddress::Postgres { url: server.url(), schema: schema.clone() };
    wait_until("what a server has stored", SOON, || async {
        let mut reader = StoreReader::connect(&address).await.map_err(|error| error.to_string())?;
        reader.snapshot().await.map_err(|error| error.to_string())
    })
    .await
}

/// Returns the system's server.
fn postgres(system: &System) -> &PostgresServer {
    &system.servers.as_ref().expect("servers of its own").postgres
}

/// Returns the system's server, which the test may stop.
pub fn postgres_mut(system: &mut System) -> &mut PostgresServer {
    &mut system.servers.as_mut().expect("servers of its own").postgres
}

/// Stops what the standby receives, after it has received something. Returns the number of events that it has.
pub async fn stop_replication(standby: &PostgresServer, system: &System) -> i64 {
    wait_until("the standby has received events", SOON, || async {
        let stored = stored_by(standby, system).await;
        holds(stored.rows > 0, || format!("{stored:?}"))
    })
    .await;
    postgres(system).freeze_replication();
    stored_by(standby, system).await.received
}

/// Waits until the system's server has stored so many events more than the standby, which has received `received`. That
/// more events are accepted is not enough: the aggregators store them later.
pub async fn primary_is_ahead(trial: &Trial, received: i64, events: i64) {
    wait_until(&format!("{events} events are stored that the standby does not have"), SOON, || async {
        let ahead = stored_by(postgres(&trial.system), &trial.system).await.received - received;
        holds(ahead >= events, || format!("{ahead} are"))
    })
    .await;
}

/// Kills the primary while each of these aggregators has a batch in flight, when it has stored at least so many events
/// that the standby does not have.
pub async fn kill_primary(trial: &mut Trial, received: i64, at_least: i64, in_flight: &[usize]) {
    primary_is_ahead(trial, received, at_least).await;
    let lock = trial.hold(in_flight).await;
    let pending = trial.system.stream().await.pending().await.unwrap();
    let lost = stored_by(postgres(&trial.system), &trial.system).await.received - received;
    postgres_mut(&mut trial.system).kill();
    drop(lock);
    trial.fault(pending);
    println!("{lost} events were lost");
}

async fn metric_of(system: &System, aggregator: usize, metric: &str) -> f64 {
    metrics::sum(&Client::new(&system.aggregators[aggregator].base()).get("/metrics").await.text, metric)
}

/// Waits until what was lost is stored again.
pub async fn repaired(system: &System) {
    wait_until("the loss is found and repaired", SOON, || async {
        let (replayed, pending) = (system.aggregator_metric(REPLAYED).await, system.aggregator_metric(PENDING).await);
        holds(replayed > 0 && pending == 0, || format!("{replayed} entries are stored again, {pending} replicas wait"))
    })
    .await;
}

/// The standby has nothing of what was stored and acknowledged since its sender was stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_promoted_standby_had_not_received_is_stored_again() {
    let setup = cluster().await;
    let standby = standby_of(&setup);
    let mut trial = Trial::begin_unseen("a lagging standby of Postgres is promoted", setup).await;
    let received = stop_replication(&standby, &trial.system).await;
    trial.load.more(3_000).await;
    for aggregator in ALL {
        trial.commits(aggregator).await;
    }
    kill_primary(&mut trial, received, 1_000, &ALL).await;
    trial.load.more(200).await;
    postgres_mut(&mut trial.system).fail_over_to(standby);
    trial.load.more(500).await;
    repaired(&trial.system).await;
    assert!(trial.system.aggregator_metric(LOSSES).await > 0);
    let ready = trial.system.aggregators[0].base();
    let ready = Client::new(&ready).get("/readyz").await.assert_status(200).text;
    assert!(!ready.contains("may be missing"), "{ready}");
    trial.end().await;
}

/// The first replica that stores something again is killed while its transaction waits for a lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replay_is_continued_by_another_replica() {
    let setup = cluster().await;
    let standby = standby_of(&setup);
    let mut trial = Trial::begin_unseen("the replica that replays is killed", setup).await;
    let received = stop_replication(&standby, &trial.system).await;
    trial.load.more(1_000).await;
    kill_primary(&mut trial, received, 100, &ALL).await;
    trial.system.aggregators.iter().for_each(|aggregator| aggregator.freeze());
    postgres_mut(&mut trial.system).fail_over_to(standby);
    let lock = TableLock::take(&trial.system.store).await;
    trial.system.aggregators.iter().for_each(|aggregator| aggregator.thaw());
    // No other replica stores anything meanwhile.
    let replaying = lock.holds_up_any().await;
    let killed = trial.system.aggregators.iter().position(|a| replaying.iter().any(|name| name == a.name())).unwrap();
    trial.system.aggregators[killed].kill();
    lock.release().await;
    repaired(&trial.system).await;
    trial.system.aggregators[killed].start().await;
    trial.load.more(500).await;
    trial.end().await;
}

/// All that was lost was stored by one replica, which never returns. The others have not lost anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_had_stored_that_is_gone_is_stored_again() {
    let setup = cluster().await;
    let standby = standby_of(&setup);
    let mut trial = Trial::begin_unseen("the replica whose commits were lost is gone", setup).await;
    trial.system.aggregators[0].freeze();
    trial.system.aggregators[1].freeze();
    let received = stop_replication(&standby, &trial.system).await;
    trial.load.more(1_000).await;
    trial.commits(2).await;
    kill_primary(&mut trial, received, 100, &[2]).await;
    trial.system.aggregators[2].kill();
    postgres_mut(&mut trial.system).fail_over_to(standby);
    trial.system.aggregators[0].thaw();
    trial.system.aggregators[1].thaw();
    repaired(&trial.system).await;
    trial.load.more(500).await;
    trial.end().await;
}

/// The backup is made while events are stored, and those that are stored later are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_after_a_backup_is_stored_again_when_the_backup_is_restored() {
    let mut trial = Trial::begin_unseen("a backup of Postgres is restored", cluster().await).await;
    let dump = dirs::fresh("dump").join("sluice.dump");
    let restored = tokio::task::block_in_place(|| {
        postgres(&trial.system).dump(&dump);
        PostgresServer::restored_from(&dump)
    });
    let received = stored_by(&restored, &trial.system).await.received;
    assert!(received > 0, "the backup is empty");
    trial.load.more(3_000).await;
    kill_primary(&mut trial, received, 1_000, &ALL).await;
    postgres_mut(&mut trial.system).replace_by(restored);
    repaired(&trial.system).await;
    trial.load.more(500).await;
    trial.end().await;
}

/// Redis is full when the standby is promoted: of the backlog, which grew meanwhile, and of the window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_window_survives_an_outage_that_fills_redis() {
    let servers = || OwnServers {
        redis: RedisServer::start_with(&["--maxmemory", "12mb"]),
        postgres: PostgresServer::start(true),
    };
    let servers = tokio::task::block_in_place(servers);
    let setup = Setup::new(Backend::RedisPostgres).aggregators(3).replica("--claim-after", "5s").on_servers(servers);
    let standby = standby_of(&setup);
    let mut trial = Trial::begin("an outage fills Redis", setup).await;
    let received = stop_replication(&standby, &trial.system).await;
    trial.load.more(2_000).await;
    kill_primary(&mut trial, received, 500, &ALL).await;
    let publisher = Client::new(&trial.system.base());
    wait_until("publishing is refused", SOON, || async {
        let text = publisher.get("/metrics").await.text;
        let refused = text.lines().find(|line| line.contains("log_memory_full")).unwrap_or_default().to_owned();
        holds(!refused.is_empty(), || format!("{} accepted", trial.load.accepted()))
    })
    .await;
    postgres_mut(&mut trial.system).fail_over_to(standby);
    repaired(&trial.system).await;
    trial.end().await;
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs_f64()
}

/// The window is so short that most of what the standby lacks is not in Redis any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_beyond_the_window_is_reported_with_its_times() {
    let setup = Setup::new(Backend::RedisPostgres).replica("--replay-window", "5s").own_servers().await;
    let standby = standby_of(&setup);
    let mut system = setup.start().await;
    let events = |from: u64| {
        json!(
            (from..from + 100).map(|id| json!({"topic": "t", "id": id.to_string(), "payload": id})).collect::<Vec<_>>()
        )
    };
    system.publish_and_wait(0, &events(0)).await;
    stop_replication(&standby, &system).await;
    let before = seconds_now();
    // More than a tick of either clock after the last commit that survives.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for round in 1..=10 {
        system.publish_and_wait(100 * round, &events(100 * round)).await;
    }
    let mut stream = system.stream().await;
    wait_until("the stream is empty", SOON, || {
        let mut stream = stream.clone();
        async move {
            let length = stream.length().await.map_err(|error| error.to_string())?;
            holds(length == 0, || format!("{length} entries"))
        }
    })
    .await;
    system.publish_and_wait(1_100, &events(1_100)).await;
    assert!(stream.length().await.unwrap() > 0, "the last events are in the window");
    postgres_mut(&mut system).kill();
    let killed = seconds_now();
    postgres_mut(&mut system).fail_over_to(standby);
    repaired(&system).await;

    let client = Client::new(&system.aggregators[0].base());
    let ready = wait_until("the loss is reported", SOON, || async {
        let answer = client.get("/readyz").await;
        if answer.text.contains("may be missing") { Ok(answer) } else { Err(answer.text) }
    })
    .await
    .assert_status(200);
    println!("{}", ready.text);
    let from = metric_of(&system, 0, "sluice_missing_from_timestamp_seconds").await;
    let until = metric_of(&system, 0, "sluice_missing_until_timestamp_seconds").await;
    assert!(from <= before, "missing from {from}, and the last event that was not lost was stored before {before}");
    assert!(from > before - 60.0, "missing from {from}, long before {before}");
    assert!((before..=killed).contains(&until), "missing until {until}, not from {before} until {killed}");
    let log = system.aggregators[0].log();
    assert!(log.contains("may be missing"), "{log}");
    // What was still there is stored, what was sent in the meantime is not, and all goes on.
    let stored = system.wait_until_stored(200).await;
    assert_eq!((stored.rows, stored.fault()), (200, None));
    assert_eq!(system.publish_and_wait(200, &events(0)).await.duplicates, 100);
    assert_eq!(system.publish_and_wait(300, &events(100)).await.rows, 300, "what was lost can be sent again");
}

/// Backs Redis up, and has 150 more events stored, each by a commit. Returns the backup.
async fn store_150_after_a_backup(system: &mut System) -> PathBuf {
    let event = |id: u64| json!([{"topic": "t", "id": id.to_string(), "payload": id}]);
    system.publish_and_wait(0, &event(0)).await;
    let backup = dirs::fresh("redis-backup").join("data");
    let redis = &mut system.servers.as_mut().expect("servers").redis;
    redis.kill();
    redis.back_up(&backup);
    redis.start_again();
    for id in 1..=150 {
        system.publish_and_wait(id, &event(id)).await;
    }
    backup
}

/// Replaces what Redis has by a backup.
fn restore(system: &mut System, backup: &Path) {
    let redis = &mut system.servers.as_mut().expect("servers").redis;
    redis.kill();
    redis.restore(backup);
    redis.start_again();
}

/// The backup of Redis has entries whose receipts are not kept any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_restored_from_a_backup_older_than_the_receipts_is_reported() {
    const TTL: Duration = Duration::from_secs(10);
    let setup = Setup::new(Backend::RedisPostgres).replica("--idempotency-ttl", "10s").replica("--workers", "1");
    let setup = setup.publisher("--idempotency-ttl", "10s").publisher("--append-timeout", "10s").own_servers().await;
    let mut system = setup.start().await;
    let backup = store_150_after_a_backup(&mut system).await;
    tokio::time::sleep(TTL + Duration::from_secs(2)).await;
    let client = Client::new(&system.aggregators[0].base());
    let before = client.get("/readyz").await.text;
    assert!(!before.contains("older than the receipts"), "{before}");
    restore(&mut system, &backup);
    wait_until("the restored Redis is reported", SOON, || async {
        let text = client.get("/readyz").await.text;
        holds(text.contains("the log is older than the receipts"), || text.clone())
    })
    .await;
    assert_eq!(metric_of(&system, 0, "sluice_log_older_than_receipts").await, 1.0);
}

/// Nobody remembers what Redis had confirmed but PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_lost_commits_while_nobody_ran_is_reported() {
    let setup = Setup::new(Backend::RedisPostgres).replica("--workers", "1").publisher("--append-timeout", "10s");
    let mut system = setup.own_servers().await.start().await;
    let backup = store_150_after_a_backup(&mut system).await;
    system.aggregators[0].terminate();
    system.publisher.as_mut().unwrap().terminate();
    restore(&mut system, &backup);
    system.aggregators[0].start().await;
    let client = Client::new(&system.aggregators[0].base());
    wait_until("the loss is reported", SOON, || async {
        let text = client.get("/readyz").await.text;
        holds(text.contains("the log is older than the store"), || text.clone())
    })
    .await;
    assert_eq!(metric_of(&system, 0, "sluice_log_losses_total").await, 1.0);
    assert_eq!(metric_of(&system, 0, "sluice_log_older_than_receipts").await, 0.0, "receipts are kept for days");
}
