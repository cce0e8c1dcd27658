//! Events that the database refuses, and how they are replayed.

use serde_json::{Value, json};
use sluice_tests::audit::exact;
use sluice_tests::store::StoreAddress;
use sluice_tests::{Backend, System};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::common::{counts, event, ids, list, system};

on_both_backends!(
    a_refused_event_is_put_aside_and_the_rest_is_stored,
    a_replayed_dead_letter_is_stored_and_counted,
    a_replay_that_is_refused_again_stays_a_dead_letter,
    a_replayed_duplicate_is_counted_as_one,
    a_keyed_request_is_put_aside_once_and_replayed_once,
    a_dead_letter_that_is_not_there_is_a_404,
    a_discarded_dead_letter_is_gone_and_counted_by_the_audit,
    dead_letters_are_filtered_by_code_and_time,
    dead_letters_that_match_are_replayed_after_a_dry_run,
    without_dead_letters_the_list_is_empty,
);

/// Makes the database refuse events of topic `poison` with a constraint or a trigger, or removes it again.
pub(crate) async fn refuse_poison(system: &System, refuse: bool) {
    match &system.store {
        StoreAddress::Postgres { url, schema } => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let table = format!("ALTER TABLE \"{schema}\".event_rows");
            let sql = match refuse {
                true => format!("{table} ADD CONSTRAINT no_poison CHECK (topic <> 'poison')"),
                false => format!("{table} DROP CONSTRAINT no_poison"),
            };
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        StoreAddress::Sqlite(path) => {
            let mut connection = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
            let sql = match refuse {
                true => {
                    "CREATE TRIGGER no_poison BEFORE INSERT ON events WHEN NEW.topic = 'poison' \
                     BEGIN SELECT RAISE(ABORT, 'no poison'); END"
                }
                false => "DROP TRIGGER no_poison",
            };
            connection.execute(sql).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

/// Returns a batch of seven events, two of which the database refuses.
fn mixed() -> Value {
    let topics = ["a", "b", "poison", "a", "poison", "b", "a"];
    topics.iter().enumerate().map(|(n, topic)| event(topic, &n.to_string())).collect()
}

fn id_of(dead_letter: &Value) -> String {
    dead_letter["id"].to_string().replace('"', "")
}

async fn a_refused_event_is_put_aside_and_the_rest_is_stored(backend: Backend) {
    let system = system(backend).await;
    refuse_poison(&system, true).await;
    let snapshot = system.publish_and_wait(0, &mixed()).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.rows, snapshot.dead_lettered), (5, 5, 5, 2));
    assert_eq!(ids(&list(&system.client, "").await), ["6", "5", "3", "1", "0"]);
    assert_eq!(system.client.get_json("/stats").await["dead_lettered"], 2);

    let dead_letters = system.dead_letters(2).await;
    let mut which: Vec<_> = dead_letters.iter().map(|d| (d["topic"].as_str(), d["event_id"].as_str())).collect();
    which.sort_unstable();
    assert_eq!(which, [(Some("poison"), Some("2")), (Some("poison"), Some("4"))]);
    for dead_letter in &dead_letters {
        assert!(dead_letter["reason"].as_str().is_some_and(|reason| reason.contains("poison")), "{dead_letter}");
        assert!(dead_letter["code"].as_str().is_some_and(|code| !code.is_empty()), "{dead_letter}");
        assert!(dead_letter["failed_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{dead_letter}");
        let shown = dead_letter["content"].as_array().unwrap();
        assert!(shown.len() == 1 && shown[0]["event_id"] == dead_letter["event_id"], "{dead_letter}");
    }

    // Later events are stored as usual.
    let snapshot = system.publish_and_wait(7, &event("a", "next")).await;
    assert_eq!((snapshot.rows, snapshot.dead_lettered, snapshot.fault()), (6, 2, None));
}

async fn a_replayed_dead_letter_is_stored_and_counted(backend: Backend) {
    let system = system(backend).await;
    refuse_poison(&system, true).await;
    system.publish_and_wait(0, &mixed()).await;
    let dead_letters = system.dead_letters(2).await;
    refuse_poison(&system, false).await;

    for (done, dead_letter) in dead_letters.iter().enumerate() {
        let path = format!("/dead-letters/{}/replay", id_of(dead_letter));
        system.client.post(&path).await.assert_status(200);
        assert_eq!(counts(&system.client).await, [6 + done as u64, 6 + done as u64, 0]);
        system.client.post(&path).await.assert_problem(404, "not_found");
    }
    system.dead_letters(0).await;
    let stats = system.client.get_json("/stats").await;
    assert_eq!((&stats["dead_lettered"], &stats["received"]), (&json!(0), &json!(7)), "{stats}");
    let replayed = system.client.get_json("/events/poison/2").await;
    assert_eq!(replayed["payload"], json!({"id": "2"}));
    assert_eq!(system.wait_until_stored(7).await.fault(), None);
}

async fn a_replay_that_is_refused_again_stays_a_dead_letter(backend: Backend) {
    let system = system(backend).await;
    refuse_poison(&system, true).await;
    system.publish_and_wait(0, &mixed()).await;
    let dead_letter = &system.dead_letters(2).await[0];
    let answer = system.client.post(&format!("/dead-letters/{}/replay", id_of(dead_letter))).await;
    answer.assert_problem(409, "still_refused");
    system.dead_letters(2).await;
    let snapshot = system.wait_until_stored(7).await;
    assert_eq!((snapshot.received, snapshot.rows, snapshot.dead_lettered), (5, 5, 2));
}

async fn a_replayed_duplicate_is_counted_as_one(backend: Backend) {
    let system = system(backend).await;
    refuse_poison(&system, true).await;
    system.publish_and_wait(0, &event("poison", "1")).await;
    let dead_letter = &system.dead_letters(1).await[0];
    refuse_poison(&system, false).await;
    // The event is sent again, and stored, before the dead letter of the first request is replayed.
    let snapshot = system.publish_and_wait(1, &event("poison", "1")).await;
    assert_eq!((snapshot.unique, snapshot.rows), (1, 1));
    system.client.post(&format!("/dead-letters/{}/replay", id_of(dead_letter))).await.assert_status(200);
    let snapshot = system.wait_until_stored(2).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates, snapshot.rows), (2, 1, 1, 1));
    assert_eq!(snapshot.conflicts, 0);
}

async fn a_keyed_request_is_put_aside_once_and_replayed_once(backend: Backend) {
    let system = system(backend).await;
    refuse_poison(&system, true).await;
    for _ in 0..3 {
        system.client.publish_keyed("k", &mixed()).await.assert_status(202);
    }
    let snapshot = system.wait_until_stored(7).await;
    assert_eq!((snapshot.received, snapshot.dead_lettered), (5, 2), "a repeated request creates no dead letters");
    refuse_poison(&system, false).await;
    for dead_letter in system.dead_letters(2).await {
        system.client.post(&format!("/dead-letters/{}/replay", id_of(&dead_letter))).await.assert_status(200);
    }
    system.client.publish_keyed("k", &mixed()).await.assert_status(202);
    let snapshot = system.wait_until_stored(7).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.rows, snapshot.dead_lettered), (7, 7, 7, 0));
}

async fn a_dead_letter_that_is_not_there_is_a_404(backend: Backend) {
    let system = system(backend).await;
    system.client.post("/dead-letters/1/replay").await.assert_problem(404, "not_found");
}

async fn a_discarded_dead_letter_is_gone_and_counted_by_the_audit(backend: Backend) {
    let system = system(backend).await;
    refuse_poison(&system, true).await;
    system.publish_and_wait(0, &mixed()).await;
    let path = format!("/dead-letters/{}", id_of(&system.dead_letters(2).await[0]));
    let answer = system.client.send(system.client.request("DELETE", &path)).await.assert_status(200);
    assert_eq!(answer.json()["discarded"], 1);
    system.client.send(system.client.request("DELETE", &path)).await.assert_problem(404, "not_found");
    system.dead_letters(1).await;
    let report = exact(&system).await;
    let total = &report["total"];
    assert_eq!((&total["received"], &total["dead_lettered"], &total["discarded"]), (&json!(5), &json!(1), &json!(1)));
}

async fn dead_letters_are_filtered_by_code_and_time(backend: Backend) {
    let system = system(backend).await;
    refuse_poison(&system, true).await;
    system.publish_and_wait(0, &mixed()).await;
    let letters = system.dead_letters(2).await;
    let (code, at) = (letters[0]["code"].as_str().unwrap(), letters[0]["failed_at"].as_str().unwrap());
    for (query, expected) in [
        (format!("code={code}"), 2),
        ("code=other".to_owned(), 0),
        (format!("since={at}"), 2),
        (format!("until={at}"), 0),
        (format!("code={code}&since={at}&limit=1"), 1),
    ] {
        let page = system.client.get_json(&format!("/dead-letters?{query}")).await;
        assert_eq!(page["dead_letters"].as_array().unwrap().len(), expected, "{query}: {page}");
    }
    system.client.get("/dead-letters?since=yesterday").await.assert_problem(400, "invalid_query");
}

async fn dead_letters_that_match_are_replayed_after_a_dry_run(backend: Backend) {
    let system = system(backend).await;
    refuse_poison(&system, true).await;
    system.publish_and_wait(0, &mixed()).await;
    let code = system.dead_letters(2).await[0]["code"].as_str().unwrap().to_owned();
    let replay = async |query: String| {
        let answer = system.client.post(&format!("/dead-letters/replay?{query}")).await.assert_status(200).json();
        let number = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("{name}: {answer}"));
        [number("matched"), number("events"), number("replayed"), number("still_refused")]
    };
    assert_eq!(replay("code=other".to_owned()).await, [0; 4]);
    assert_eq!(replay(format!("code={code}")).await, [2, 2, 0, 2]);
    refuse_poison(&system, false).await;
    assert_eq!(replay(format!("code={code}&dry_run=true")).await, [2, 2, 0, 0]);
    system.dead_letters(2).await;
    assert_eq!(replay(format!("code={code}")).await, [2, 2, 2, 0]);
    system.dead_letters(0).await;
    assert_eq!(counts(&system.client).await, [7, 7, 0]);
}

async fn without_dead_letters_the_list_is_empty(backend: Backend) {
    let system = system(backend).await;
    system.dead_letters(0).await;
}
