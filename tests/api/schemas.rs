//! JSON Schemas of topics, as a client sees them.

use serde_json::{Value, json};
use sluice_tests::system::CATCH_UP;
use sluice_tests::wait::holds;
use sluice_tests::{Answer, Backend, Client, Setup, System, dirs, metrics, wait_until};

use crate::common::{counts, event, system};

on_both_backends!(
    a_payload_that_does_not_match_is_refused_with_its_place_and_reason,
    a_topic_may_let_in_what_does_not_match_and_count_it,
    a_part_of_a_request_is_accepted_if_it_asks_for_it,
    a_request_that_was_accepted_under_its_key_stays_so_when_the_schema_changes,
    versions_are_kept_and_the_same_schema_is_none,
    a_dry_run_compares_stored_events_and_changes_nothing,
    what_is_no_schema_is_said_with_its_place_and_changes_nothing,
    schemas_of_a_file_are_in_force_and_follow_its_changes,
    schemas_survive_a_restart,
    the_schema_of_a_topic_applies_to_the_data_of_its_cloud_events,
);

fn order(id: &str, amount: Value) -> Value {
    json!({"topic": "orders", "event_id": id, "payload": {"amount": amount}})
}

fn amounts() -> Value {
    json!({"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer", "minimum": 0}}})
}

async fn put(client: &Client, topic: &str, definition: &Value) -> Answer {
    client.send(client.request("PUT", &format!("/topics/{topic}/schema")).body(definition.to_string())).await
}

async fn publish(client: &Client, query: &str, body: &Value) -> Answer {
    let request = client.request("POST", &format!("/publish{query}")).header("Content-Type", "application/json");
    client.send(request.body(body.to_string())).await
}

/// Waits until an event is refused because of its topic's schema. Those that are not are duplicates of each other.
async fn wait_until_refused(client: &Client, bad: &Value) -> Value {
    wait_until("the schema is in force", CATCH_UP, || async {
        let answer = publish(client, "", bad).await;
        if answer.status == 202 { Err(answer.text) } else { Ok(answer.assert_problem(422, "schema_violation")) }
    })
    .await
}

/// Puts the schema of orders, and waits until it is in force.
async fn with_schema(backend: Backend) -> System {
    let system = system(backend).await;
    put(&system.client, "orders", &json!({"schema": amounts()})).await.assert_status(201);
    wait_until_refused(&system.client, &order("probe", json!("x"))).await;
    system
}

async fn a_payload_that_does_not_match_is_refused_with_its_place_and_reason(backend: Backend) {
    let system = with_schema(backend).await;
    let client = &system.client;
    let before = counts(client).await[0];
    let mixed = json!([order("1", json!(1)), order("2", json!(-1)), event("other", "1"), order("3", json!("x"))]);
    let problem = publish(client, "", &mixed).await.assert_problem(422, "schema_violation");
    let detail = "events[1].payload at /amount: the value is less than the minimum of 0";
    assert_eq!((&problem["index"], &problem["field"]), (&json!(1), &json!("payload")), "{problem}");
    assert_eq!((&problem["pointer"], &problem["detail"]), (&json!("/amount"), &json!(detail)), "{problem}");
    let second = &problem["errors"][1];
    assert_eq!((&second["index"], &second["pointer"]), (&json!(3), &json!("/amount")), "{problem}");
    assert_eq!((&second["code"], &problem["error_count"]), (&json!("schema_violation"), &json!(2)), "{problem}");
    let missing = json!({"topic": "orders", "event_id": "4", "payload": {}});
    let problem = publish(client, "", &missing).await.assert_problem(422, "schema_violation");
    assert_eq!(problem["pointer"], "", "{problem}");
    assert!(
        problem["detail"].as_str().is_some_and(|text| text.contains("\"amount\" is a required property")),
        "{problem}"
    );
    // What matches, and what is of other topics, is stored, and nothing else.
    client.publish(&json!([order("5", json!(5)), event("other", "2")])).await;
    system.wait_until_stored(before + 2).await;
    let ingest = client.get("/metrics").await;
    let refused = "sluice_publish_schema_violations_total{policy=\"refuse\"}";
    assert!(ingest.text.contains(refused), "{}", ingest.text);
    assert_eq!(metrics::sum(&ingest.text, "sluice_publish_schemas"), 1.0, "{}", ingest.text);
}

async fn a_topic_may_let_in_what_does_not_match_and_count_it(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let added = put(client, "orders", &json!({"schema": amounts(), "policy": "count"})).await.assert_status(201).json();
    assert_eq!((&added["policy"], &added["version"], &added["in_force"]), (&json!("count"), &json!(1), &json!(true)));
    let violations = wait_until("a violation is counted", CATCH_UP, || async {
        publish(client, "", &order("1", json!("x"))).await.assert_status(202);
        let shown = client.get_json("/topics/orders/schema").await;
        shown["violations"].as_u64().filter(|violations| *violations > 0).ok_or_else(|| shown.to_string())
    })
    .await;
    let listed = client.get_json("/schemas").await;
    assert!(listed["schemas"][0]["violations"].as_u64() >= Some(violations), "{listed}");
    assert!(listed["schemas"][0].get("schema").is_none(), "{listed}");
    let stored = client.get("/events/orders/1").await;
    wait_until("the event is stored", CATCH_UP, || async {
        holds(client.get("/events/orders/1").await.status == 200, || stored.text.clone())
    })
    .await;
    let counted = metrics::sum(&client.get("/metrics").await.text, "sluice_publish_schema_violations_total");
    assert!(counted >= violations as f64, "{counted}");
    // Another version begins at zero.
    put(client, "orders", &json!({"schema": amounts(), "policy": "refuse"})).await.assert_status(200);
    assert_eq!(client.get_json("/topics/orders/schema").await["violations"], 0);
}

async fn a_part_of_a_request_is_accepted_if_it_asks_for_it(backend: Backend) {
    let system = with_schema(backend).await;
    let client = &system.client;
    let mixed =
        json!([order("1", json!(1)), {"topic": "orders", "event_id": ""}, order("2", json!(-1)), order("3", json!(3))]);
    let answer = publish(client, "?partial=true", &mixed).await.assert_status(202).json();
    assert_eq!((&answer["count"], &answer["rejected"]), (&json!(2), &json!(2)), "{answer}");
    let errors: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|e| (&e["index"], &e["code"])).collect();
    assert_eq!(errors, [(&json!(1), &json!("invalid_event")), (&json!(2), &json!("schema_violation"))]);
    assert_eq!(answer["errors"][1]["pointer"], "/amount", "{answer}");
    for id in ["1", "3"] {
        wait_until("the good events are stored", CATCH_UP, || async {
            holds(client.get(&format!("/events/orders/{id}")).await.status == 200, || id.to_owned())
        })
        .await;
    }
    client.get("/events/orders/2").await.assert_problem(404, "not_found");
    // Nothing is left.
    let none = json!([order("4", json!(-1))]);
    publish(client, "?partial=true", &none).await.assert_problem(422, "schema_violation");
}

async fn a_request_that_was_accepted_under_its_key_stays_so_when_the_schema_changes(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let keyed = async |key: &str, query: &str, body: &Value| {
        let request = client.request("POST", &format!("/publish{query}")).header("Content-Type", "application/json");
        client.send(request.header("Idempotency-Key", key).body(body.to_string())).await
    };
    let body = json!([order("1", json!("x")), order("2", json!(2))]);
    let first = keyed("k", "", &body).await.assert_status(202).json();
    system.wait_until_stored(2).await;
    put(client, "orders", &json!({"schema": amounts()})).await.assert_status(201);
    wait_until_refused(client, &order("1", json!("x"))).await;
    let before = client.get_json("/stats").await;
    let again = keyed("k", "", &body).await.assert_status(202).json();
    assert_eq!(again, first);
    // Another request, although under the same key, was not accepted before; nor was the same under another key.
    keyed("k", "", &order("1", json!("x"))).await.assert_problem(422, "schema_violation");
    keyed("l", "", &body).await.assert_problem(422, "schema_violation");
    // Under a key a part is not accepted because of a schema: which part that is would not follow from the body.
    keyed("m", "?partial=true", &body).await.assert_problem(422, "schema_violation");
    publish(client, "?partial=true", &body).await.assert_status(202);
    system.wait_until_stored_at_least(before["received"].as_u64().unwrap() + 1).await;
    let stats = client.get_json("/stats").await;
    assert_eq!(stats["unique_processed"], 2, "{stats}");
    assert_eq!(stats["received"].as_u64(), before["received"].as_u64().map(|received| received + 1), "{stats}");
}

async fn versions_are_kept_and_the_same_schema_is_none(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    client.get("/topics/a%2Fb%20c/schema").await.assert_problem(404, "not_found");
    client.get("/topics/a%2Fb%20c/schema/versions").await.assert_problem(404, "not_found");
    let first =
        put(client, "a%2Fb%20c", &json!({"schema": {"type": "object", "title": "t"}})).await.assert_status(201).json();
    assert_eq!((&first["topic"], &first["version"]), (&json!("a/b c"), &json!(1)), "{first}");
    let same = put(client, "a%2Fb%20c", &json!({"schema": {"title": "t", "type": "object"}, "policy": "refuse"})).await;
    assert_eq!(same.assert_status(200).json(), first);
    let second =
        put(client, "a%2Fb%20c", &json!({"schema": {"type": "object", "title": "t"}, "policy": "count"})).await;
    assert_eq!(second.assert_status(200).json()["version"], 2);
    put(client, "a%2Fb%20c", &json!({"schema": true})).await.assert_status(200);
    let old = client.get_json("/topics/a%2Fb%20c/schema?version=2").await;
    assert_eq!((&old["policy"], &old["in_force"], &old["violations"]), (&json!("count"), &json!(false), &Value::Null));
    assert_eq!(old["schema"], json!({"type": "object", "title": "t"}), "{old}");
    client.get("/topics/a%2Fb%20c/schema?version=4").await.assert_problem(404, "not_found");
    client.get("/topics/a%2Fb%20c/schema?version=x").await.assert_problem(400, "invalid_query");
    let removed = client.send(client.request("DELETE", "/topics/a%2Fb%20c/schema")).await.assert_status(200);
    assert_eq!(removed.json(), json!({"removed": "a/b c"}));
    client.send(client.request("DELETE", "/topics/a%2Fb%20c/schema")).await.assert_problem(404, "not_found");
    client.get("/topics/a%2Fb%20c/schema").await.assert_problem(404, "not_found");
    let fourth = put(client, "a%2Fb%20c", &json!({"schema": true})).await.assert_status(201).json();
    assert_eq!(fourth["version"], 4);
    let versions = client.get_json("/topics/a%2Fb%20c/schema/versions").await;
    let versions: Vec<_> = versions["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| {
            (version["version"].as_u64().unwrap(), version["in_force"] == true, version["removed_at"].is_string())
        })
        .collect();
    assert_eq!(versions, [(4, true, false), (3, false, true), (2, false, false), (1, false, false)]);
}

async fn a_dry_run_compares_stored_events_and_changes_nothing(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let events: Vec<_> =
        (0..300).map(|n| order(&format!("{n}"), if n % 3 == 0 { json!("x") } else { json!(n) })).collect();
    system.publish_and_wait(0, &json!(events)).await;
    let dry_run = async |query: &str, definition: &Value| {
        let path = format!("/topics/orders/schema?dry_run=true{query}");
        client.send(client.request("PUT", &path).body(definition.to_string())).await
    };
    let found = dry_run("", &json!({"schema": amounts()})).await.assert_status(200).json();
    assert_eq!((&found["checked"], &found["violations"], &found["complete"]), (&json!(300), &json!(100), &json!(true)));
    let examples = found["examples"].as_array().unwrap();
    assert_eq!(examples.len(), 100, "{found}");
    assert_eq!(
        examples[0],
        json!({"event_id": "297", "pointer": "/amount", "reason": "the value is not of type \"integer\""})
    );
    let newest = dry_run("&events=10", &json!({"schema": amounts()})).await.assert_status(200).json();
    assert_eq!(
        (&newest["checked"], &newest["violations"], &newest["complete"]),
        (&json!(10), &json!(3), &json!(true)),
        "{newest}"
    );
    for (query, field) in [("&events=0", "events"), ("&events=10001", "events"), ("&colour=red", "colour")] {
        let problem = dry_run(query, &json!({"schema": true})).await.assert_problem(400, "invalid_query");
        assert_eq!(problem["field"], field, "{problem}");
    }
    dry_run("", &json!({"schema": 1})).await.assert_problem(422, "invalid_schema");
    client.get("/topics/orders/schema").await.assert_problem(404, "not_found");
    client.get("/topics/orders/schema/versions").await.assert_problem(404, "not_found");
    let path = "/topics/orders/schema?events=10";
    let without = client.send(client.request("PUT", path).body(json!({"schema": true}).to_string())).await;
    without.assert_problem(400, "invalid_query");
}

async fn what_is_no_schema_is_said_with_its_place_and_changes_nothing(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    for (definition, field, pointer) in [
        (
            json!({"schema": {"properties": {"a": {"minLength": -1}}}}),
            json!("schema"),
            json!("/properties/a/minLength"),
        ),
        (json!({"schema": {"$ref": "http://127.0.0.1:1/schema"}}), json!("schema"), json!("/$ref")),
        (json!({"schema": {"pattern": "(?=a)"}}), json!("schema"), json!("/pattern")),
        (json!({"schema": true, "policy": "warn"}), json!("policy"), Value::Null),
        (json!({"schema": true, "colour": "red"}), json!("colour"), Value::Null),
        (json!({}), Value::Null, Value::Null),
    ] {
        let problem = put(client, "t", &definition).await.assert_problem(422, "invalid_schema");
        assert_eq!((&problem["field"], &problem["pointer"]), (&field, &pointer), "{problem}");
    }
    let large = json!({"schema": {"title": "x".repeat(70_000)}});
    put(client, "t", &large).await.assert_problem(422, "invalid_schema");
    put(client, "t", &json!({"schema": {"title": "x".repeat(300_000)}})).await.assert_problem(413, "body_too_large");
    let blank = put(client, "%20", &json!({"schema": true})).await.assert_problem(422, "invalid_schema");
    assert_eq!(blank["field"], "topic", "{blank}");
    put(client, &"t".repeat(257), &json!({"schema": true})).await.assert_problem(422, "invalid_schema");
    client.get("/topics/%00/schema").await.assert_problem(404, "not_found");
    assert_eq!(client.get_json("/schemas").await, json!({"schemas": []}));
    for n in 0..100 {
        put(client, &format!("t{n}"), &json!({"schema": true})).await.assert_status(201);
    }
    put(client, "one-more", &json!({"schema": true})).await.assert_problem(409, "too_many_schemas");
    put(client, "t0", &json!({"schema": false})).await.assert_status(200);
}

async fn schemas_of_a_file_are_in_force_and_follow_its_changes(backend: Backend) {
    let file = dirs::fresh("schemas").join("schemas.yaml");
    std::fs::write(&file, "schemas:\n- topic: orders\n  schema:\n    required: [amount]\n").expect("the file");
    let system = Setup::new(backend).aggregator("--schemas", &file.display().to_string()).start().await;
    let client = &system.client;
    let bad = json!({"topic": "orders", "event_id": "1", "payload": {}});
    match backend {
        Backend::Standalone => {
            publish(client, "", &bad).await.assert_problem(422, "schema_violation");
        }
        Backend::RedisPostgres => drop(wait_until_refused(client, &bad).await),
    }
    std::fs::write(&file, "schemas: [{topic: orders, schema: 1}]").expect("the file");
    wait_until("the file that cannot be used is noticed", CATCH_UP, || async {
        let unusable = system.aggregator_metric("sluice_schemas_file_unusable").await;
        holds(unusable > 0, || format!("{unusable}"))
    })
    .await;
    std::fs::write(&file, "schemas: [{topic: bills, schema: {required: [amount]}}]").expect("the file");
    wait_until_refused(client, &json!({"topic": "bills", "event_id": "1", "payload": {}})).await;
    // What is not in the file any more stays.
    publish(client, "", &bad).await.assert_problem(422, "schema_violation");
    assert_eq!(system.aggregator_metric("sluice_schemas_file_unusable").await, 0);
}

async fn schemas_survive_a_restart(backend: Backend) {
    let mut system = with_schema(backend).await;
    system.restart().await;
    // Nothing passes unchecked because a program has just started.
    let problem = publish(&system.client, "", &order("1", json!(-1))).await.assert_problem(422, "schema_violation");
    assert_eq!(problem["pointer"], "/amount", "{problem}");
    assert_eq!(system.client.get_json("/topics/orders/schema").await["schema"], amounts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_checks_by_the_last_schemas_while_no_aggregator_answers() {
    let mut system = with_schema(Backend::RedisPostgres).await;
    for aggregator in &mut system.aggregators {
        aggregator.kill();
    }
    let bad = order("1", json!(-1));
    let client = system.client.clone();
    client.get("/schemas").await.assert_problem(503, "query_unavailable");
    publish(&client, "", &bad).await.assert_problem(422, "schema_violation");
    // One that starts now finds them in the log.
    let publisher = system.publisher.as_mut().expect("a publisher");
    publisher.kill();
    publisher.start().await;
    let client = Client::new(&system.base());
    publish(&client, "", &bad).await.assert_problem(422, "schema_violation");
    publish(&client, "", &order("2", json!(2))).await.assert_status(202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_notice_is_written_again_and_the_publisher_goes_on_meanwhile() {
    let system = Setup::new(Backend::RedisPostgres).own_servers().await.start().await;
    let bad = order("1", json!(-1));
    put(&system.client, "orders", &json!({"schema": amounts()})).await.assert_status(201);
    wait_until_refused(&system.client, &bad).await;
    let (url, prefix) = system.stream.clone().expect("Redis");
    let redis = redis::Client::open(url).expect("the URL");
    let mut redis = redis.get_multiplexed_async_connection().await.expect("a connection");
    let key = format!("{prefix}:notice");
    let _: () = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.expect("it is gone");
    // The publisher goes on with what it knows.
    publish(&system.client, "", &bad).await.assert_problem(422, "schema_violation");
    wait_until("an aggregator writes it again", CATCH_UP, || async {
        let found: bool =
            redis::cmd("EXISTS").arg(&key).query_async(&mut redis.clone()).await.map_err(|e| e.to_string())?;
        holds(found, || "it is not there".into())
    })
    .await;
    publish(&system.client, "", &bad).await.assert_problem(422, "schema_violation");
}

async fn the_schema_of_a_topic_applies_to_the_data_of_its_cloud_events(backend: Backend) {
    let system = Setup::new(backend).env("SLUICE_DEDUP_FIELDS", "topic,event_id,source").start().await;
    let client = &system.client;
    let publish = async |id: &str, amount: Value| {
        let event =
            json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "orders", "data": {"amount": amount}});
        let request = client.request("POST", "/publish").header("Content-Type", "application/cloudevents+json");
        client.send(request.body(event.to_string())).await
    };
    publish("before", json!("x")).await.assert_status(202);
    system.wait_until_stored(1).await;
    let dry_run = client.request("PUT", "/topics/orders/schema?dry_run=true");
    let found = client.send(dry_run.body(json!({"schema": amounts()}).to_string())).await.assert_status(200).json();
    let example = &found["examples"][0];
    assert_eq!((&example["event_id"], &example["pointer"]), (&json!("before"), &json!("/data/amount")), "{found}");
    put(client, "orders", &json!({"schema": amounts()})).await.assert_status(201);
    let problem = wait_until("the schema is in force", CATCH_UP, || async {
        let answer = publish("before", json!("x")).await;
        if answer.status == 202 { Err(answer.text) } else { Ok(answer.assert_problem(422, "schema_violation")) }
    })
    .await;
    assert_eq!(problem["pointer"], "/data/amount", "{problem}");
    publish("after", json!(1)).await.assert_status(202);
    // An event in another form of the same topic is compared as a whole.
    client.publish(&order("plain", json!(1))).await;
    wait_until("both are stored", CATCH_UP, || async {
        let stored = client.get_json("/events?topic=orders").await;
        holds(stored["events"].as_array().map(Vec::len) == Some(3), || stored.to_string())
    })
    .await;
}
