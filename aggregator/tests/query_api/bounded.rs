//! What a subject that is bounded by topics sees: each route of the query API, on both databases.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::request::Parts;
use futures::future::BoxFuture;
use sluice_auth::{Scope, Subject, Topics};
use sluice_event::entry::{Entry, Request};
use sluice_service::guard::{Decision, RequestGuard};
use sluice_tests::Answer;

use super::*;

/// Puts a subject into each request that names its topics or its scope. It stands for a guard that reads tokens.
struct SubjectOfHeader;

impl RequestGuard for SubjectOfHeader {
    fn check<'r>(&'r self, request: &'r mut Parts) -> BoxFuture<'r, Decision> {
        let mut subject = Subject::anyone();
        if let Some(topics) = request.headers.get("x-topics") {
            let patterns = topics.to_str().unwrap().split(' ').map(|pattern| pattern.parse().unwrap());
            subject.topics = Topics::Only(patterns.collect());
        }
        if let Some(scope) = request.headers.get("x-scope") {
            subject.scopes = [scope.to_str().unwrap().parse::<Scope>().unwrap()].into_iter().collect();
        }
        Box::pin(async { Decision::serve().about(Arc::new(subject)) })
    }
}

/// A client that sends the patterns of a subject.
struct Bounded<'c> {
    client: &'c Client,
    topics: &'static str,
}

impl Bounded<'_> {
    async fn send(&self, method: &str, path: &str) -> Answer {
        self.client.send(self.client.request(method, path).header("X-Topics", self.topics)).await
    }

    async fn get(&self, path: &str) -> Value {
        self.send("GET", path).await.assert_status(200).json()
    }

    async fn refused(&self, path: &str, topic: &str) {
        let problem = self.send("GET", path).await.assert_problem(403, "topic_not_allowed");
        assert!(problem["detail"].as_str().unwrap().contains(&format!("{topic:?}")), "{problem}");
        assert_eq!(problem["field"], "topic", "{problem}");
    }
}

pub(crate) async fn store_events(store: &dyn Store, events: &Value) {
    let body = events.to_string();
    let events = sluice_event::parse(body.as_bytes(), &Limits::default(), Timestamp::now()).expect("events");
    let request = Request {
        id: RequestId::random(),
        receipt: None,
        waits: false,
        accepted_at: Timestamp::now(),
        events,
        trace: None,
    };
    let entries = vec![(
        Position { stream: 0, millis: 1, sequence: 1 },
        Entry { id: EntryId::random(), requests: vec![request] },
    )];
    commit(store, &rules(), &Batch { entries, ..Batch::default() }).await.unwrap();
}

/// Stores a dead letter that is a single event.
async fn refuse_event(store: &dyn Store, topic: &str, event_id: &str) {
    static SEQUENCE: AtomicU64 = AtomicU64::new(100);
    let entry = packed(&json!([{"topic": topic, "event_id": event_id, "payload": "of a dead letter"}]));
    let dead_letter = NewDeadLetter {
        position: Position { stream: 0, millis: 1, sequence: SEQUENCE.fetch_add(1, Ordering::Relaxed) },
        event: Some((topic.to_owned(), event_id.to_owned())),
        events: 1,
        code: "23514".to_owned(),
        reason: "a constraint".to_owned(),
        body: entry.body,
        receipts: None,
    };
    let put_aside = PutAside { dead_letter, entry: None, keyed: None };
    commit(store, &rules(), &Batch { dead_letters: vec![put_aside], ..Batch::default() }).await.unwrap();
}

/// Serves a store with events of four topics, of which two are `orders.*`.
async fn served(store: Arc<dyn Inspect>) -> (Client, DropGuard) {
    let topics = ["orders.eu", "bills", "orders.us", "orders"];
    let event = |n: usize| {
        let (topic, source, id) = (topics[n % 4], ["a", "b"][n % 2], (n / 4).to_string());
        json!({"topic": topic, "event_id": id, "payload": n, "source": source})
    };
    let events: Value = (0..40).map(event).collect();
    store_events(&*store, &events).await;
    store_events(&*store, &json!([{"topic": "orders.eu", "event_id": "0", "payload": "other"}])).await;
    store_events(&*store, &json!([{"topic": "bills", "event_id": "0", "payload": 1}])).await;
    serve_guarded(store, sqlite_log().await, Some(Arc::new(SubjectOfHeader))).await
}

fn set(values: &Value, member: &str) -> BTreeSet<String> {
    values.as_array().unwrap().iter().map(|value| value[member].as_str().unwrap().to_owned()).collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

async fn a_list_of_events_has_only_those_of_the_subjects_topics(store: Arc<dyn Inspect>) {
    let (client, _serving) = served(store).await;
    let bounded = Bounded { client: &client, topics: "orders.*" };
    let whole = client.get_json("/events?limit=1000").await;
    let events = whole["events"].as_array().unwrap().iter().cloned();
    let theirs: Vec<_> = events.filter(|event| event["topic"].as_str().unwrap().starts_with("orders.")).collect();
    assert_eq!(theirs.len(), 20);
    let list = bounded.get("/events?limit=1000").await;
    assert_eq!((list["events"].as_array().unwrap(), &list["next_cursor"]), (&theirs, &Value::Null));

    let (mut path, mut paged) = ("/events?limit=7".to_owned(), Vec::new());
    loop {
        let page = bounded.get(&path).await;
        paged.extend(page["events"].as_array().unwrap().iter().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/events?limit=7&cursor={cursor}");
    }
    assert_eq!(paged, theirs);
    let lines = client.request("GET", "/events?limit=7").header("Accept", "application/x-ndjson");
    let lines = client.send(lines.header("X-Topics", "orders.*")).await.assert_status(200);
    assert_eq!(lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>(), theirs[..7]);

    assert!(bounded.get("/events?source=b").await["events"].as_array().unwrap().is_empty(), "they have only a");
    assert_eq!(bounded.get("/events?topic=orders.us").await["events"].as_array().unwrap().len(), 10);
    for topic in ["bills", "orders", "orders.", "nothing"] {
        bounded.refused(&format!("/events?topic={topic}"), topic).await;
    }
    let nobody = Bounded { client: &client, topics: "nothing none.*" };
    assert_eq!(nobody.get("/events").await, json!({"events": [], "next_cursor": null}));
}

async fn an_event_of_another_topic_is_refused_whether_it_is_there_or_not(store: Arc<dyn Inspect>) {
    let (client, _serving) = served(store).await;
    let bounded = Bounded { client: &client, topics: "orders.* x/y" };
    for id in ["0", "nothing"] {
        bounded.refused(&format!("/events/bills/{id}"), "bills").await;
        bounded.refused(&format!("/events/bills/{id}?all=true"), "bills").await;
    }
    assert_eq!(bounded.get("/events/orders.eu/0").await["payload"], 0);
    assert_eq!(bounded.get("/events/orders.eu/0?all=true").await["events"].as_array().unwrap().len(), 1);
    bounded.send("GET", "/events/orders.eu/nothing").await.assert_problem(404, "not_found");
    bounded.send("GET", "/events/x%2Fy/1").await.assert_problem(404, "not_found");
    bounded.refused("/events/x%2Fz/1", "x/z").await;
}

async fn topics_and_statistics_are_those_of_the_subject(store: Arc<dyn Inspect>) {
    refuse_event(&*store, "orders.eu", "refused").await;
    refuse_event(&*store, "bills", "refused").await;
    put_aside(&*store, packed(&json!([{"topic": "orders.eu", "id": "whole", "payload": 1}])).body, 1).await;
    let (client, _serving) = served(store).await;
    let bounded = Bounded { client: &client, topics: "orders.*" };
    let listed = bounded.get("/topics").await;
    assert_eq!(
        (set(&listed["topics"], "topic"), &listed["next_cursor"]),
        (names(["orders.eu", "orders.us"]), &Value::Null)
    );
    let first = bounded.get("/topics?limit=1").await;
    let next = first["next_cursor"].as_str().expect("a cursor");
    let second = bounded.get(&format!("/topics?limit=1&cursor={next}")).await;
    assert_eq!(second["next_cursor"], Value::Null);
    assert_eq!(json!([first["topics"][0], second["topics"][0]]), listed["topics"]);

    let (stats, whole) = (bounded.get("/stats").await, client.get_json("/stats").await);
    let expected = json!({"received": 21, "unique_processed": 20, "duplicate_dropped": 1, "conflicts": 1,
        "dead_lettered": 1, "topic_count": 2, "backlog": whole["backlog"],
        "log": "available", "dedup_horizon": whole["dedup_horizon"]});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&stats[name], value, "{name} of {stats}");
    }
    assert_eq!(
        (set(&stats["consumers"], "name"), &whole["consumers"][0]["name"]),
        (names(["standalone"]), &json!("standalone"))
    );
    assert_eq!((&whole["received"], &whole["dead_lettered"]), (&json!(42), &json!(3)), "{whole}");
    // The overview that is held for others is not theirs.
    let (overview, of_all) = (bounded.get("/overview").await, client.get_json("/overview").await);
    assert_eq!(overview["totals"]["received"], 21, "{overview}");
    assert_eq!((&overview["totals"]["dead_lettered"], &overview["totals"]["topic_count"]), (&json!(1), &json!(2)));
    assert_eq!(
        (&of_all["totals"]["received"], &of_all["totals"]["dead_lettered"]),
        (&json!(42), &json!(3)),
        "{of_all}"
    );
    let of_topics: BTreeSet<_> = stats["topics"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(of_topics, names(["orders.eu", "orders.us"]));
    assert_eq!(stats["topics"]["orders.eu"], whole["topics"]["orders.eu"]);
    let one = bounded.get("/stats?topics=1").await;
    assert_eq!((&one["received"], one["topics"].as_object().unwrap().len()), (&json!(21), 1), "{one}");

    let sums = |answer: &Value| {
        let sum =
            |name: &str| answer["series"].as_array().unwrap().iter().map(|w| w[name].as_u64().unwrap()).sum::<u64>();
        ["received", "unique_processed", "duplicate_dropped", "conflicts"].map(sum)
    };
    assert_eq!(sums(&bounded.get("/stats/series").await), [21, 20, 1, 1]);
    assert_eq!(sums(&client.get_json("/stats/series").await)[0], 42);
    let of_one = stats["topics"]["orders.eu"]["received"].as_u64().unwrap();
    assert_eq!(sums(&bounded.get("/stats/series?topic=orders.eu").await)[0], of_one);
    bounded.refused("/stats/series?topic=bills", "bills").await;
    bounded.refused("/stats/series?topic=unknown", "unknown").await;
}

async fn a_dead_letter_of_another_topic_or_of_unknown_topics_does_not_exist(store: Arc<dyn Inspect>) {
    put_aside(&*store, packed(&json!([{"topic": "orders.eu", "id": "whole", "payload": 1}])).body, 1).await;
    for topic in ["orders.eu", "bills", "orders.us"] {
        refuse_event(&*store, topic, "refused").await;
    }
    let (client, _serving) = serve_guarded(store, sqlite_log().await, Some(Arc::new(SubjectOfHeader))).await;
    let bounded = Bounded { client: &client, topics: "orders.*" };
    let whole = client.get_json("/dead-letters").await;
    let ids: Vec<_> = whole["dead_letters"].as_array().unwrap().iter().map(|letter| letter["id"].clone()).collect();
    let [us, bills, eu, unknown] = &ids[..] else { panic!("{whole}") };
    let listed = bounded.get("/dead-letters").await;
    assert_eq!(set(&listed["dead_letters"], "topic"), names(["orders.eu", "orders.us"]), "{listed}");
    assert_eq!(listed["dead_letters"].as_array().unwrap().len(), 2);

    for id in [bills, unknown] {
        bounded.send("DELETE", &format!("/dead-letters/{id}")).await.assert_problem(404, "not_found");
        bounded.send("POST", &format!("/dead-letters/{id}/replay")).await.assert_problem(404, "not_found");
    }
    bounded.send("DELETE", "/dead-letters/77").await.assert_problem(404, "not_found");
    let killed = "/dead-letters/replay?code=kills_its_reader";
    assert_eq!(bounded.send("POST", killed).await.assert_status(200).json()["matched"], 0);
    let dry = bounded.send("POST", "/dead-letters/replay?dry_run=true").await.assert_status(200).json();
    assert_eq!((&dry["matched"], &dry["next_cursor"]), (&json!(2), &Value::Null), "{dry}");

    bounded.send("POST", &format!("/dead-letters/{us}/replay")).await.assert_status(200);
    let replayed = bounded.send("POST", "/dead-letters/replay").await.assert_status(200).json();
    assert_eq!((&replayed["matched"], &replayed["replayed"]), (&json!(1), &json!(1)), "{replayed}");
    bounded.send("DELETE", &format!("/dead-letters/{eu}")).await.assert_problem(404, "not_found");
    let left = client.get_json("/dead-letters").await;
    assert_eq!(left["dead_letters"].as_array().unwrap().len(), 2, "{left}");
    client.send(client.request("DELETE", &format!("/dead-letters/{bills}"))).await.assert_status(200);
    client.post(&format!("/dead-letters/{unknown}/replay")).await.assert_status(200);
}

async fn a_dead_letter_of_unknown_topics_is_only_for_an_admin_of_every_topic(store: Arc<dyn Inspect>) {
    put_aside(&*store, packed(&json!([{"topic": "orders.eu", "id": "whole", "payload": 1}])).body, 1).await;
    refuse_event(&*store, "bills", "refused").await;
    let (client, _serving) = serve_guarded(store, sqlite_log().await, Some(Arc::new(SubjectOfHeader))).await;
    let listed = async |scope: &str| {
        let answer = client.send(client.request("GET", "/dead-letters").header("X-Scope", scope)).await;
        answer.assert_status(200).json()["dead_letters"].as_array().unwrap().clone()
    };
    let (readers, admins) = (listed("read").await, listed("admin").await);
    assert_eq!((readers.len(), &readers[0]["topic"]), (1, &json!("bills")), "{readers:?}");
    assert_eq!((admins.len(), &admins[1]["topic"]), (2, &Value::Null), "{admins:?}");
    // Without authentication everybody is an admin.
    assert_eq!(client.get_json("/dead-letters").await["dead_letters"].as_array().unwrap(), &admins);
}

async fn a_subject_discards_a_dead_letter_of_its_topic(store: Arc<dyn Inspect>) {
    refuse_event(&*store, "orders.eu", "refused").await;
    let (client, _serving) = serve_guarded(store, sqlite_log().await, Some(Arc::new(SubjectOfHeader))).await;
    let id = client.get_json("/dead-letters").await["dead_letters"][0]["id"].clone();
    let bounded = Bounded { client: &client, topics: "orders.eu" };
    let discarded = bounded.send("DELETE", &format!("/dead-letters/{id}")).await.assert_status(200).json();
    assert_eq!(discarded, json!({"discarded": 1}));
}

async fn schemas_are_those_of_the_subjects_topics(store: Arc<dyn Inspect>) {
    let (client, _serving) = serve_guarded(store, sqlite_log().await, Some(Arc::new(SubjectOfHeader))).await;
    let put = async |topic: &str| {
        let request = client.request("PUT", &format!("/topics/{topic}/schema")).header("X-Topics", "orders.* bills");
        client.send(request.body(r#"{"schema":true}"#)).await
    };
    for topic in ["orders.eu", "bills"] {
        put(topic).await.assert_status(201);
    }
    put("orders").await.assert_problem(403, "topic_not_allowed");
    let bounded = Bounded { client: &client, topics: "orders.*" };
    assert_eq!(set(&bounded.get("/schemas").await["schemas"], "topic"), names(["orders.eu"]));
    assert_eq!(bounded.get("/topics/orders.eu/schema").await["version"], 1);
    for topic in ["bills", "orders"] {
        bounded.refused(&format!("/topics/{topic}/schema"), topic).await;
        bounded.refused(&format!("/topics/{topic}/schema/versions"), topic).await;
        let path = format!("/topics/{topic}/schema");
        bounded.send("DELETE", &path).await.assert_problem(403, "topic_not_allowed");
    }
    bounded.send("DELETE", "/topics/orders.eu/schema").await.assert_status(200);
    assert_eq!(set(&client.get_json("/schemas").await["schemas"], "topic"), names(["bills"]));
}

/// Runs each case on both databases.
macro_rules! on_both_stores {
    ($($case:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::sqlite_store().await).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let server = super::PostgresServer::start(false);
                super::$case(super::postgres_store(&server).await).await;
            })*
        }
    };
}

on_both_stores! {
    a_list_of_events_has_only_those_of_the_subjects_topics
    an_event_of_another_topic_is_refused_whether_it_is_there_or_not
    topics_and_statistics_are_those_of_the_subject
    a_dead_letter_of_another_topic_or_of_unknown_topics_does_not_exist
    a_dead_letter_of_unknown_topics_is_only_for_an_admin_of_every_topic
    a_subject_discards_a_dead_letter_of_its_topic
    schemas_are_those_of_the_subjects_topics
}
