//! Tests of the query API over HTTP, against real stores and logs: its responses when the store or the log is
//! unavailable, and its dead letters. All other responses are tested on the whole system.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bounded;
mod guard;
mod slow_readers;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_aggregator::api::{ApiState, router};
use sluice_event::entry::{PackedEntry, PackedRequest};
use sluice_event::{EntryId, Event, Keyer, Limits, RequestId, Timestamp};
use sluice_log::redis::{ReaderSettings, RedisReader, RedisTls, SentinelLogin};
use sluice_log::sqlite::{SqliteLog, SqliteSettings};
use sluice_log::{LogReader, Position};
use sluice_service::guard::SharedGuard;
use sluice_service::options::ServeOptions;
use sluice_service::server;
use sluice_store::commit::{Batch, commit};
use sluice_store::inspect::Inspect;
use sluice_store::postgres::{PostgresSettings, PostgresStore};
use sluice_store::put_aside::PutAside;
use sluice_store::sqlite::SqliteStore;
use sluice_store::{CommitOptions, NewDeadLetter, Store};
use sluice_tests::postgres::PostgresServer;
use sluice_tests::{Client, dirs};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Returns an address at which no server responds: the port is bound, but no connection is accepted.
fn nowhere() -> (std::net::TcpListener, String) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    (taken, address)
}

fn rules() -> CommitOptions {
    CommitOptions { keyer: Keyer::default(), shard: "replica".into(), audit: false, numbering: None }
}

async fn sqlite_store() -> Arc<dyn Inspect> {
    let path = dirs::fresh("api-store").join("store.db");
    Arc::new(SqliteStore::open(&path, &Keyer::default(), 1000).await.unwrap())
}

async fn sqlite_log() -> Arc<dyn LogReader> {
    let folder = dirs::fresh("api-log");
    let settings = SqliteSettings { folder, idempotency_ttl: Duration::from_secs(60), max_bytes: None };
    Arc::new(SqliteLog::open(settings).await.unwrap())
}

async fn postgres_store(server: &PostgresServer) -> Arc<dyn Inspect> {
    let settings = PostgresSettings { url: server.url(), ..PostgresSettings::default() };
    let store = PostgresStore::connect(&settings).unwrap();
    store.migrate().await.unwrap();
    Arc::new(store)
}

/// Serves the API until the guard is dropped.
async fn serve(store: Arc<dyn Inspect>, log: Arc<dyn LogReader>) -> (Client, DropGuard) {
    serve_guarded(store, log, None).await
}

/// Serves the API with a guard for its requests.
async fn serve_guarded(store: Arc<dyn Inspect>, log: Arc<dyn LogReader>, guard: SharedGuard) -> (Client, DropGuard) {
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let serving = server::run(
        listener,
        router(ApiState::new(store, log, rules())),
        stop.clone(),
        ServeOptions::new(Duration::ZERO).guarded_by(guard),
    );
    tokio::spawn(serving);
    (Client::new(&base), stop.drop_guard())
}

fn packed(events: &Value) -> PackedEntry {
    let body = events.to_string();
    let events: Vec<Event<'_>> =
        sluice_event::parse(body.as_bytes(), &Limits::default(), Timestamp::now()).expect("events");
    let request = PackedRequest::new(RequestId::random(), None, Timestamp::now(), &events);
    PackedEntry::new(EntryId::random(), [&request].into_iter())
}

async fn put_aside(store: &dyn Store, body: Vec<u8>, events: u64) {
    let position = Position { stream: 0, millis: events, sequence: 2 };
    let (code, reason) = ("kills_its_reader".to_owned(), "it was tried three times".to_owned());
    let dead_letter = NewDeadLetter { position, event: None, events, code, reason, body, receipts: None };
    let put_aside = PutAside { dead_letter, entry: None, keyed: None };
    commit(store, &rules(), &Batch { dead_letters: vec![put_aside], ..Batch::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_every_resource_says_when_to_come_back() {
    let (_taken, address) = nowhere();
    let settings =
        PostgresSettings { url: format!("postgres://sluice:secret@{address}/sluice"), ..PostgresSettings::default() };
    let store = Arc::new(PostgresStore::connect(&settings).unwrap());
    let (client, _serving) = serve(store, sqlite_log().await).await;
    let asked = ["/events", "/events/t/1", "/topics", "/stats", "/dead-letters"].map(|path| {
        let client = client.clone();
        async move { (path, client.get(path).await) }
    });
    for (path, answer) in futures::future::join_all(asked).await {
        println!("{path}: {}", answer.text);
        answer.assert_problem(503, "store_unavailable");
        assert!(answer.headers.contains_key("retry-after"), "{path}");
        assert!(!answer.text.contains("secret") && !answer.text.contains(&address), "{path}: {}", answer.text);
    }
    client.post("/dead-letters/1/replay").await.assert_problem(503, "store_unavailable");
    client.get("/openapi.json").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_says_so() {
    let server = PostgresServer::start(false);
    let settings = PostgresSettings { url: server.url(), ..PostgresSettings::default() };
    let store = Arc::new(PostgresStore::connect(&settings).unwrap());
    store.migrate().await.unwrap();
    let mut connection = PgConnection::connect(&settings.url).await.unwrap();
    let slow = "ALTER TABLE sluice.counters RENAME TO slow; \
                CREATE VIEW sluice.counters AS SELECT slow.* FROM pg_sleep(60) LEFT JOIN sluice.slow ON true";
    sqlx::raw_sql(slow).execute(&mut connection).await.unwrap();
    let (client, _serving) = serve(store, sqlite_log().await).await;
    client.get("/stats").await.assert_problem(504, "query_too_slow");
    client.get("/events").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_log_the_counts_are_answered_and_the_backlog_is_unknown() {
    let (_taken, address) = nowhere();
    let log = RedisReader::new(ReaderSettings {
        url: format!("redis://{address}"),
        tls: RedisTls::default(),
        sentinel: SentinelLogin::default(),
        prefix: "sluice".into(),
        streams: 1,
        consumer: "replica".into(),
        replay_window: Duration::from_secs(1),
        replay_window_bytes: 1 << 20,
    });
    let (client, _serving) = serve(sqlite_store().await, Arc::new(log.unwrap())).await;
    let stats = client.get_json("/stats").await;
    assert_eq!((&stats["backlog"], &stats["consumers"]), (&Value::Null, &json!([])), "{stats}");
    assert_eq!((&stats["log"], &stats["received"]), (&json!("unavailable"), &json!(0)), "{stats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_entry_is_listed_without_what_is_in_it() {
    let store = sqlite_store().await;
    let (client, _serving) = serve(store.clone(), sqlite_log().await).await;
    let events: Value = (0..12).map(|n| json!({"topic": "t", "event_id": n.to_string(), "payload": n})).collect();
    let entry = packed(&events);
    put_aside(&*store, entry.body, entry.events).await;
    put_aside(&*store, b"\x01 this is no entry".to_vec(), 5).await;

    let listed = client.get_json("/dead-letters").await;
    let letters = listed["dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), 2, "{listed}");
    assert_eq!((&letters[0]["content"], &letters[0]["events"]), (&json!([]), &json!(5)));
    assert_eq!((&letters[1]["content"], &letters[1]["events"]), (&json!([]), &json!(12)));
    assert_eq!(letters[1]["position"], "0/12-2");
    assert_eq!(client.get_json("/stats").await["dead_lettered"], 17);

    let first = client.get_json("/dead-letters?limit=1").await;
    let next = first["next_cursor"].as_str().expect("a cursor");
    let second = client.get_json(&format!("/dead-letters?limit=1&cursor={next}")).await;
    assert_eq!((&second["dead_letters"][0]["id"], &second["next_cursor"]), (&letters[1]["id"], &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_answers_what_it_counted_and_an_unreadable_letter_stays() {
    let store = sqlite_store().await;
    let (client, _serving) = serve(store.clone(), sqlite_log().await).await;
    let entry = packed(&json!([{"id": "1", "payload": 1}, {"id": "1", "payload": 2}, {"id": "2", "payload": 1}]));
    put_aside(&*store, entry.body, entry.events).await;
    put_aside(&*store, b"\xff".to_vec(), 1).await;
    let listed = client.get_json("/dead-letters").await;
    let replay = async |letter: usize| {
        client.post(&format!("/dead-letters/{}/replay", listed["dead_letters"][letter]["id"])).await
    };
    let replayed = replay(1).await.assert_status(200).json();
    let counted = json!({"received": 3, "unique_processed": 2, "duplicate_dropped": 1, "conflicts": 1});
    assert_eq!(replayed, json!({"replayed": counted}));
    replay(1).await.assert_problem(404, "not_found");

    let refused = replay(0).await.assert_problem(409, "still_refused");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("is damaged")), "{refused}");
    assert_eq!(client.get_json("/stats").await["dead_lettered"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_no_text_is_not_found_and_an_error_names_its_parameter() {
    let (client, _serving) = serve(sqlite_store().await, sqlite_log().await).await;
    for path in ["/events/%ff/1", "/events/t/%00", "/events/t/%c3"] {
        client.get(path).await.assert_problem(404, "not_found");
    }
    for id in ["%ff", "1.5", "99999999999999999999", "one"] {
        client.post(&format!("/dead-letters/{id}/replay")).await.assert_problem(404, "not_found");
    }
    for (query, field) in [("limit=0", "limit"), ("since=now", "since"), ("cursor=1", "cursor"), ("colour=1", "colour")]
    {
        let problem = client.get(&format!("/events?{query}")).await.assert_problem(400, "invalid_query");
        assert_eq!(problem["field"], field, "{problem}");
    }
    client.get("/dead-letters?topic=t").await.assert_problem(400, "invalid_query");
    client.get("/events?limit=10000").await.assert_problem(400, "invalid_query");
    let lines = client.request("GET", "/events?limit=10000").header("Accept", "application/x-ndjson");
    assert_eq!(client.send(lines).await.assert_status(200).text, "");
}
