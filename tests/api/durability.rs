//! What `/readyz` of an aggregator tells about servers that promise too little, and what it refuses.

use std::time::Duration;

use sluice_tests::postgres::PostgresServer;
use sluice_tests::program::Program;
use sluice_tests::redis::RedisServer;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, dirs, wait_until};

const SOON: Duration = Duration::from_secs(180);

/// Starts an aggregator with these options, without waiting until it is ready.
fn launch(redis: &RedisServer, postgres: &PostgresServer, options: &[&str]) -> (Program, Client) {
    let servers = ["run", "--redis-url", &redis.url(), "--database-url", &postgres.url()].map(str::to_owned);
    let args = servers.into_iter().chain(options.iter().map(|&option| option.to_owned())).collect();
    let mut aggregator = Program::new("aggregator", "sluice-aggregator", args, &[], &dirs::fresh("durability"));
    aggregator.launch();
    let client = Client::new(&aggregator.base());
    (aggregator, client)
}

/// Waits until `/readyz` is answered with this status and has this line.
async fn answers(client: &Client, status: u16, text: &str) {
    wait_until(&format!("{status} with {text:?}"), SOON, || async {
        let answer = client.try_send(client.request("GET", "/readyz")).await.map_err(|error| error.to_string())?;
        holds(answer.status == status && answer.text.contains(text), || answer.text.clone())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregator_tells_what_its_servers_do_not_promise_and_is_not_ready_if_it_requires_it() {
    let redis = RedisServer::start_with(&["--appendfsync", "everysec"]);
    let postgres = PostgresServer::start_with("fsync = off\n");
    let (_telling, client) = launch(&redis, &postgres, &[]);
    answers(&client, 200, "redis.appendfsync is everysec, but durability needs always\n").await;
    answers(&client, 200, "postgres.fsync is off, but durability needs on\n").await;

    let durable_redis = RedisServer::start();
    let (_refusing, client) = launch(&durable_redis, &postgres, &["--require-durable"]);
    answers(&client, 503, "postgres.fsync is off").await;
    let durable_postgres = PostgresServer::start_with("fsync = on\nsynchronous_commit = off\n");
    let (_refusing, client) = launch(&redis, &durable_postgres, &["--require-durable"]);
    answers(&client, 503, "redis.appendfsync is everysec").await;
    // Each session of the aggregator turns synchronous_commit on.
    let (_ready, client) = launch(&durable_redis, &durable_postgres, &["--require-durable"]);
    answers(&client, 200, "ready\n").await;
    assert_eq!(client.get("/readyz").await.text, "ready\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standalone_depends_on_no_servers_and_promises_by_itself() {
    let system = Setup::new(Backend::Standalone).start().await;
    assert_eq!(system.client.get("/readyz").await.text, "ready\n");
}
