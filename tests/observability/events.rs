//! Events that cannot be stored, that differ from stored ones, and that are damaged.

use serde_json::{Value, json};
use sluice_tests::store::StoreAddress;
use sluice_tests::{Backend, Setup, System};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::monitoring::Monitoring;

/// Returns an event.
pub fn event(topic: &str, id: &str, payload: &str) -> Value {
    json!([{"topic": topic, "event_id": id, "source": "test", "payload": {"text": payload}}])
}

/// Executes a statement, in which `@` stands for the schema.
pub async fn execute(system: &System, sql: &str) {
    let StoreAddress::Postgres { url, schema } = &system.store else { unreachable!("it is in Postgres") };
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    connection.execute(AssertSqlSafe(sql.replace('@', &format!("\"{schema}\"")))).await.expect("a statement");
}

/// Makes the database refuse events of the topic `poison`.
pub const REFUSE: &str = "ALTER TABLE @.event_rows ADD CONSTRAINT no_poison CHECK (topic <> 'poison')";
/// Undoes it.
pub const ALLOW: &str = "ALTER TABLE @.event_rows DROP CONSTRAINT no_poison";

/// The first one of each kind since the aggregator was started, which is the one that a rate does not show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_event_that_is_refused_or_differs_is_told() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).start().await;
    let watch = Monitoring::of(&mut system).await;
    execute(&system, REFUSE).await;
    system.publish_and_wait(0, &event("poison", "1", "a")).await;
    watch.fires("SluiceDeadLetters", &[]).await;
    system.publish_and_wait(1, &event("t", "1", "a")).await;
    system.publish_and_wait(2, &event("t", "1", "b")).await;
    watch.fires("SluiceConflicts", &[("severity", "info")]).await;

    execute(&system, ALLOW).await;
    system.client.post("/dead-letters/replay").await.assert_status(200);
    system.dead_letters(0).await;
    watch.ends("SluiceDeadLetters", &[]).await;
    watch.ends("SluiceConflicts", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_damaged_and_repaired() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).start().await;
    let watch = Monitoring::of(&mut system).await;
    system.publish_and_wait(0, &event("t", "1", "right")).await;
    let whole = system.client.get_json("/events?topic=t").await;
    watch.has_not_fired("SluiceDamage");
    let change = |from: &str, to: &str| {
        format!("UPDATE @.event_rows SET payload = replace(payload::text, '{from}', '{to}')::json")
    };
    execute(&system, &change("right", "wrong")).await;
    system.client.get("/events?topic=t").await;
    watch.fires("SluiceDamage", &[("severity", "critical")]).await;
    execute(&system, &change("wrong", "right")).await;
    assert_eq!(system.client.get_json("/events?topic=t").await, whole, "it is as before");
    watch.ends("SluiceDamage", &[]).await;
}
