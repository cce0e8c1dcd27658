//! What the publisher tells about a Redis server that promises too little, and what it refuses.

use sluice_tests::program::Program;
use sluice_tests::redis::RedisServer;
use sluice_tests::wait::holds;
use sluice_tests::{Client, dirs, metrics, wait_until};

use crate::fixture::{Fixture, PATIENCE, event};

/// Starts a publisher that requires durability, without waiting until it is ready.
fn launch(url: &str, options: &[&str]) -> (Program, Client) {
    let args = [&["serve", "--redis-url", url, "--require-durable"], options].concat();
    let args = args.into_iter().map(str::to_owned).collect();
    let mut publisher = Program::new("publisher", "sluice-publisher", args, &[], &dirs::fresh("publisher"));
    publisher.launch();
    let client = Client::new(&publisher.base());
    (publisher, client)
}

/// Waits until the publisher refuses to be ready with this text in its reason.
async fn is_not_ready(client: &Client, reason: &str) {
    wait_until("the publisher is not ready", PATIENCE, || async {
        let answer = client.try_send(client.request("GET", "/readyz")).await.map_err(|error| error.to_string())?;
        holds(answer.status == 503 && answer.text.contains(reason), || answer.text.clone())
    })
    .await;
}

#[tokio::test]
async fn a_redis_without_an_append_only_file_is_told_and_publishing_continues() {
    let fixture = Fixture::start_on(RedisServer::start_with(&["--appendonly", "no"]), &[]).await;
    let note = "redis.appendonly is no, but durability needs yes";
    wait_until("readyz tells it", PATIENCE, || async {
        let answer = fixture.client.get("/readyz").await.assert_status(200);
        holds(answer.text == format!("ready\n{note}\n"), || answer.text.clone())
    })
    .await;
    fixture.client.publish(&event("1")).await;
    let text = fixture.client.get("/metrics").await.text;
    assert!(text.contains("sluice_durability_setting{setting=\"redis.appendonly\"} 0"), "{text}");
    assert_eq!(metrics::sum(&text, "sluice_durability_setting"), 4.0, "the other four are as needed");
    let warnings = fixture.publisher.log().matches(note).count();
    assert_eq!(warnings, 1, "{}", fixture.publisher.log());
}

#[tokio::test]
async fn required_durability_makes_the_publisher_ready_only_while_redis_is_durable() {
    let redis = RedisServer::start_with(&["--appendonly", "no"]);
    let (_publisher, client) = launch(&redis.url(), &[]);
    is_not_ready(&client, "redis.appendonly is no").await;

    let mut gone = RedisServer::start();
    gone.kill();
    let (_unknowing, client) = launch(&gone.url(), &[]);
    is_not_ready(&client, "what Redis promises is not known yet").await;

    let redis = RedisServer::start();
    let (mut publisher, _) = launch(&redis.url(), &[]);
    publisher.ready().await;
}

#[tokio::test]
async fn what_redis_does_not_tell_is_refused_unless_it_is_accepted() {
    let redis = RedisServer::start();
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg(&["limited", "on", ">secret", "~*", "&*", "+@all", "-config"]);
    user.query_async::<()>(&mut connection).await.unwrap();
    let url = redis.url().replace("redis://", "redis://limited:secret@");

    let (_refusing, client) = launch(&url, &[]);
    is_not_ready(&client, "redis.appendfsync is unknown").await;
    let unknown = "redis.appendfsync,redis.no-appendfsync-on-rewrite";
    let (mut accepting, client) = launch(&url, &["--accept-unknown-durability", unknown]);
    accepting.ready().await;
    let notes = client.get("/readyz").await.text;
    assert_eq!(notes.lines().count(), 3, "{notes}");
}
