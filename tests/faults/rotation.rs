//! The password of the database is changed while the programs run under load.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sluice_tests::postgres::PostgresServer;
use sluice_tests::redis::RedisServer;
use sluice_tests::store::StoreAddress;
use sluice_tests::system::OwnServers;
use sluice_tests::{Backend, Client, Setup, System, dirs};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::trial::Trial;

/// The programs need a password, and the test does not.
const RULES: &str = "host sluice shop all scram-sha-256\nhost all postgres all trust\n";

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("a connection of the test");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.expect(sql);
}

fn url_of(system: &System) -> &str {
    let StoreAddress::Postgres { url, .. } = &system.store else { unreachable!("it is in Postgres") };
    url
}

/// Replaces a file as a whole, so that no program reads half of it.
fn replace(file: &Path, content: &str) {
    let next = file.with_extension("next");
    std::fs::write(&next, content).expect("a file");
    std::fs::rename(next, file).expect("the file is replaced");
}

async fn setup() -> (Setup, PathBuf) {
    let start = || OwnServers { redis: RedisServer::start(), postgres: PostgresServer::start_with_rules(RULES) };
    let servers = tokio::task::spawn_blocking(start).await.expect("servers");
    let sql = "CREATE ROLE shop LOGIN PASSWORD 'first'; GRANT CREATE ON DATABASE sluice TO shop";
    execute(&servers.postgres.url(), sql).await;
    let file = dirs::fresh("password").join("password");
    replace(&file, "first\n");
    let url = servers.postgres.url().replace("://postgres@", "://shop@");
    let setup = Setup::new(Backend::RedisPostgres).aggregators(3).replica("--claim-after", "5s").on_servers(servers);
    (setup.postgres_at(&url).replica("--database-password-file", &file.display().to_string()), file)
}

/// Sends queries, one after the other, until it is told to stop. All of them must be answered.
async fn ask(client: Client, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        client.get("/stats").await.assert_status(200);
        client.get("/events?limit=5").await.assert_status(200);
        answered.fetch_add(2, Ordering::Relaxed);
    }
}

/// Waits until programs have opened new connections with what the file has now: one whose sessions are ended, and one
/// that is started again. No query is sent to either.
async fn connect_again(trial: &mut Trial) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%/aggregator-1'";
    execute(url_of(&trial.system), end).await;
    trial.commits(1).await;
    let ended = trial.system.aggregators[2].terminate();
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    trial.system.aggregators[2].start().await;
    trial.commits(2).await;
    trial.load.more(200).await;
}

async fn accepts(system: &System, password: &str) -> bool {
    let url = url_of(system).replace("://postgres@", &format!("://shop:{password}@"));
    PgConnection::connect(&url).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_of_the_database_fails_no_request_and_needs_no_restart() {
    let (setup, file) = setup().await;
    let mut trial = Trial::begin_unseen("the password of Postgres is changed", setup).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asking: Vec<_> =
        (0..4).map(|_| tokio::spawn(ask(Client::new(&trial.system.base()), stop.clone(), answered.clone()))).collect();

    replace(&file, "first\nsecond\n");
    connect_again(&mut trial).await;
    // What is in flight is stored by sessions that were opened before.
    let lock = trial.hold(&[0, 1, 2]).await;
    let pending = trial.system.stream().await.pending().await.unwrap();
    execute(url_of(&trial.system), "ALTER ROLE shop PASSWORD 'second'").await;
    trial.fault(pending);
    lock.release().await;
    assert!(accepts(&trial.system, "second").await && !accepts(&trial.system, "first").await);
    connect_again(&mut trial).await;
    replace(&file, "second\n");
    connect_again(&mut trial).await;

    stop.store(true, Ordering::Relaxed);
    for asking in asking {
        asking.await.expect("every query was answered");
    }
    println!("{} queries were answered", answered.load(Ordering::Relaxed));
    let tally = trial.end().await;
    assert_eq!(tally.repeats, 0, "requests were refused: {tally}");
}

/// Changes the user of the programs.
fn change_user(redis: &RedisServer, rules: &[&str]) {
    let changed: Result<String, String> = redis.command(&[&["ACL", "SETUSER", "shop"], rules].concat());
    assert_eq!(changed.as_deref(), Ok("OK"), "{rules:?}");
}

/// Clients notice that the only publisher is started again, and repeat their requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_of_redis_loses_nothing_while_the_programs_are_started_again_in_turn() {
    let redis = tokio::task::spawn_blocking(RedisServer::start).await.expect("a server");
    change_user(&redis, &["on", ">first", "~*", "&*", "+@all"]);
    let url = |password: &str| format!("redis://shop:{password}@{}", redis.address());
    let setup = Setup::new(Backend::RedisPostgres).aggregators(3).replica("--claim-after", "5s");
    let setup = setup.redis_at(&url("first"), &redis.url());
    let mut trial = Trial::begin("the password of Redis is changed", setup).await;
    change_user(&redis, &[">second"]);
    for program in trial.system.programs() {
        program.replace_option("--redis-url", &url("second"));
        let ended = program.terminate();
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        program.start().await;
    }
    let lock = trial.hold(&[0, 1, 2]).await;
    let pending = trial.system.stream().await.pending().await.unwrap();
    change_user(&redis, &["<first"]);
    // All connections must be opened again.
    let closed: i64 = redis.command(&["CLIENT", "KILL", "USER", "shop"]).expect("connections of the programs");
    assert!(closed >= 4, "{closed} connections");
    trial.fault(pending);
    lock.release().await;
    let refused = sluice_tests::redis::command_at::<String>(&url("first"), &["PING"]);
    assert!(refused.is_err(), "{refused:?}");
    trial.load.more(500).await;
    trial.end().await;
}
