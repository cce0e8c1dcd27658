//! Redis and PostgreSQL without what they had confirmed.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, System, dirs, wait_until};

use crate::monitoring::Monitoring;

const SOON: Duration = Duration::from_secs(120);

fn events(from: u64, count: u64) -> Value {
    (from..from + count).map(|id| json!({"topic": "t", "event_id": id.to_string(), "payload": id})).collect()
}

/// Redis is restored from a backup that has neither what was appended since, nor receipts in PostgreSQL for what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_restored_from_an_old_backup() {
    let setup = Setup::without_tls(Backend::RedisPostgres).replica("--idempotency-ttl", "10s");
    let setup = setup.replica("--workers", "1").publisher("--idempotency-ttl", "10s");
    let mut system = setup.publisher("--append-timeout", "10s").own_servers().await.start().await;
    let watch = Monitoring::of(&mut system).await;
    system.publish_and_wait(0, &events(0, 1)).await;
    let backup = dirs::fresh("redis-backup").join("data");
    let redis = &mut system.servers.as_mut().expect("servers").redis;
    redis.kill();
    redis.back_up(&backup);
    redis.start_again();
    for id in 1..=150 {
        system.publish_and_wait(id, &events(id, 1)).await;
    }
    // Until the receipts of the first event are not kept any more.
    tokio::time::sleep(Duration::from_secs(12)).await;
    watch.has_not_fired("SluiceEventsLost");
    let redis = &mut system.servers.as_mut().expect("servers").redis;
    redis.kill();
    redis.restore(&backup);
    redis.start_again();
    watch.fires("SluiceEventsLost", &[]).await;
    watch.fires("SluiceRedisRestoredTooOld", &[]).await;
    watch.ends("SluiceEventsLost", &[]).await;
    // A replica that starts looks again: it finds nothing when its worker has acknowledged something since.
    let stored = system.reader().await.snapshot().await.expect("the counts").arrived();
    system.publish_and_wait(stored, &events(1_000, 1)).await;
    system.aggregators[0].terminate();
    system.aggregators[0].start().await;
    watch.ends("SluiceRedisRestoredTooOld", &[]).await;
}

/// A standby is promoted that lacks commits, and Redis does not keep them either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_lost_what_redis_has_not_any_more() {
    let setup = Setup::without_tls(Backend::RedisPostgres).replica("--replay-window", "5s").own_servers().await;
    let standby = tokio::task::block_in_place(|| setup.servers().postgres.standby());
    let mut system = setup.start().await;
    let watch = Monitoring::of(&mut system).await;
    system.publish_and_wait(0, &events(0, 100)).await;
    postgres_has_sent_everything(&system).await;
    system.servers.as_ref().expect("servers").postgres.freeze_replication();
    for round in 1..=3 {
        system.publish_and_wait(100 * round, &events(100 * round, 100)).await;
    }
    let stream = system.stream().await;
    wait_until("the stream is empty", SOON, || {
        let mut stream = stream.clone();
        async move {
            let length = stream.length().await.map_err(|error| error.to_string())?;
            holds(length == 0, || format!("{length} entries"))
        }
    })
    .await;
    system.publish_and_wait(400, &events(400, 100)).await;
    watch.has_not_fired("SluiceEventsMissing");
    let postgres = &mut system.servers.as_mut().expect("servers").postgres;
    postgres.kill();
    postgres.fail_over_to(standby);
    watch.fires("SluiceEventsMissing", &[("severity", "critical")]).await;
    // It is told for seven days, after which Redis forgets the loss by itself. They are over at once.
    forget_the_loss(&system);
    watch.ends("SluiceEventsMissing", &[]).await;
}

/// Waits until the standby has what was stored.
async fn postgres_has_sent_everything(system: &System) {
    use sqlx::Connection;
    let url = system.servers.as_ref().expect("servers").postgres.url();
    wait_until("the standby has everything", SOON, || async {
        let mut connection = sqlx::PgConnection::connect(&url).await.map_err(|error| error.to_string())?;
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.map_err(|error| error.to_string())?;
        holds(count == 1, || format!("{count} standbys have"))
    })
    .await;
}

fn forget_the_loss(system: &System) {
    let redis = &system.servers.as_ref().expect("servers").redis;
    let keys: Vec<String> = redis.command(&["KEYS", "*loss*"]).expect("the keys");
    assert_eq!(keys.len(), 1, "{keys:?}");
    let time: i64 = redis.command(&["TTL", &keys[0]]).expect("the time");
    assert!((6 * 86_400..=7 * 86_400).contains(&time), "{time} s are left");
    redis.command::<i64>(&["PEXPIRE", &keys[0], "1"]).expect("it ends");
}
