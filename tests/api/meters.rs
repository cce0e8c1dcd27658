//! Meters, as a client sees them.

use serde_json::{Value, json};
use sluice_tests::system::CATCH_UP;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, System, dirs, wait_until};

use crate::common::system;

on_both_backends!(
    a_meter_is_put_read_changed_and_removed,
    figures_are_grouped_and_filtered_as_asked,
    figures_begin_where_the_time_zone_says,
    figures_are_lines_of_csv_or_json_on_request,
    several_meters_are_asked_at_once_and_an_error_names_the_question,
    what_cannot_be_used_is_said_with_its_field_and_changes_nothing,
    meters_of_a_file_are_put_at_the_start_and_when_it_changes,
    figures_survive_a_restart,
);

/// An order at noon of the first of November 2026, or some minutes later.
fn order(id: &str, source: &str, amount: Value, minute: u32) -> Value {
    json!({"topic": "orders", "event_id": id, "source": source, "timestamp": format!("2026-11-01T12:{minute:02}:00Z"),
        "payload": {"amount": amount, "customer": {"id": format!("c{}", id.len())}}})
}

const NOON: &str = "from=2026-11-01T12:00:00Z&to=2026-11-01T13:00:00Z";

async fn put(client: &Client, name: &str, definition: &Value) -> Value {
    let put = client.request("PUT", &format!("/meters/{name}")).body(definition.to_string());
    let answer = client.send(put).await;
    assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text);
    answer.json()
}

/// Waits until the meter counts what was stored before it was put.
async fn complete(client: &Client, name: &str) -> Value {
    wait_until("the meter is complete", CATCH_UP, || async {
        let meters = client.get_json("/meters").await;
        let meter =
            meters["meters"].as_array().and_then(|meters| meters.iter().find(|meter| meter["name"] == name).cloned());
        let meter = meter.ok_or_else(|| format!("no {name} in {meters}"))?;
        let is_complete = meter["complete"] == true && meter["changing_to"].is_null();
        if is_complete { Ok(meter) } else { Err(meter.to_string()) }
    })
    .await
}

/// Returns the groups of all windows that have events.
async fn groups(client: &Client, name: &str, query: &str) -> Vec<Value> {
    let answer = client.get_json(&format!("/meters/{name}?{query}")).await;
    let windows = answer["windows"].as_array().unwrap_or_else(|| panic!("no windows: {answer}"));
    windows.iter().flat_map(|window| window["groups"].as_array().expect("groups").clone()).collect()
}

fn sales() -> Value {
    json!({"aggregation": "sum", "value": "/amount", "topics": ["orders"], "group_by": ["source", "/customer/id"]})
}

async fn with_orders(backend: Backend) -> System {
    let system = system(backend).await;
    put(&system.client, "sales", &sales()).await;
    let sent = json!([
        order("1", "shop", json!(0.1), 0),
        order("2", "shop", json!("0.2"), 1),
        order("30", "app", json!(5), 2),
        order("1", "shop", json!(9), 3),
        order("4", "app", json!("much"), 4),
    ]);
    system.publish_and_wait(0, &sent).await;
    system
}

async fn a_meter_is_put_read_changed_and_removed(backend: Backend) {
    let system = with_orders(backend).await;
    let client = &system.client;
    assert_eq!(
        groups(client, "sales", NOON).await,
        [json!({"group": {}, "value": "5.3", "events": 3})],
        "a duplicate and what is no number do not count"
    );
    let meter = complete(client, "sales").await;
    wait_until("what was skipped is shown", CATCH_UP, || async {
        let meter = complete(client, "sales").await;
        holds(meter["skipped"] == 1 && meter["skipped_example"] == "4 of topic orders: the value is no number", || {
            meter.to_string()
        })
    })
    .await;
    assert_eq!((&meter["aggregation"], &meter["complete_from"]), (&json!("sum"), &Value::Null), "{meter}");
    // A meter that is put later counts what was stored before.
    let put_later = put(client, "orders", &json!({"aggregation": "count", "topics": ["orders"]})).await;
    assert_eq!(put_later["name"], "orders");
    complete(client, "orders").await;
    assert_eq!(groups(client, "orders", NOON).await, [json!({"group": {}, "value": "4", "events": 4})]);
    // A changed one shows its former figures until then.
    let changed = put(client, "orders", &json!({"aggregation": "max", "value": "/amount"})).await;
    assert!(changed["aggregation"] == "count" && changed["changing_to"]["aggregation"] == "max", "{changed}");
    complete(client, "orders").await;
    assert_eq!(groups(client, "orders", NOON).await, [json!({"group": {}, "value": "5", "events": 3})]);
    let removed = client.send(client.request("DELETE", "/meters/orders")).await.assert_status(200);
    assert_eq!(removed.json(), json!({"removed": "orders"}));
    client.get("/meters/orders").await.assert_problem(404, "not_found");
    client.send(client.request("DELETE", "/meters/orders")).await.assert_problem(404, "not_found");
}

async fn figures_are_grouped_and_filtered_as_asked(backend: Backend) {
    let system = with_orders(backend).await;
    let client = &system.client;
    let by_source = groups(client, "sales", &format!("{NOON}&group_by=source")).await;
    let expected = [
        json!({"group": {"source": "app"}, "value": "5", "events": 1}),
        json!({"group": {"source": "shop"}, "value": "0.3", "events": 2}),
    ];
    assert_eq!(by_source, expected);
    let by_both =
        groups(client, "sales", &format!("{NOON}&group_by=[\"/customer/id\",\"source\"]&window=minute")).await;
    let of = |source: &str, customer: &str, value: &str| json!({"group": {"source": source, "/customer/id": customer}, "value": value, "events": 1});
    assert_eq!(by_both, [of("shop", "c1", "0.1"), of("shop", "c1", "0.2"), of("app", "c2", "5")]);
    let filtered = groups(client, "sales", &format!("{NOON}&filter=%7B%22source%22:%22shop%22%7D")).await;
    assert_eq!(filtered, [json!({"group": {}, "value": "0.3", "events": 2})]);
    let without = groups(client, "sales", &format!("{NOON}&filter=%7B%22source%22:null%7D")).await;
    assert!(without.is_empty(), "{without:?}");
}

async fn figures_begin_where_the_time_zone_says(backend: Backend) {
    let system = with_orders(backend).await;
    // In India an hour begins in the middle of one of UTC.
    let query = "from=2026-11-01T12:00:00Z&to=2026-11-01T12:10:00Z&tz=Asia/Kolkata";
    let answer = system.client.get_json(&format!("/meters/sales?{query}")).await;
    assert_eq!(answer["windows"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer["windows"][0]["start"], "2026-11-01T17:00:00+05:30", "{answer}");
    assert_eq!(answer["windows"][0]["groups"][0]["value"], "5.3", "{answer}");
    let month = system
        .client
        .get_json("/meters/sales?window=month&tz=Europe/Berlin&from=2026-11-15T00:00:00Z&to=2026-11-16T00:00:00Z")
        .await;
    assert_eq!(month["windows"][0]["start"], "2026-11-01T00:00:00+01:00", "{month}");
    assert_eq!(month["windows"][0]["groups"][0]["value"], "5.3", "{month}");
    assert!(month["complete"] == true || month["complete"] == false, "{month}");
}

async fn figures_are_lines_of_csv_or_json_on_request(backend: Backend) {
    let system = with_orders(backend).await;
    let client = &system.client;
    let path = format!("/meters/sales?{NOON}&group_by=source");
    let csv = client.send(client.request("GET", &path).header("Accept", "text/csv")).await.assert_status(200);
    assert!(csv.content_type().starts_with("text/csv"), "{}", csv.content_type());
    let (start, end) = ("2026-11-01T12:00:00+00:00", "2026-11-01T13:00:00+00:00");
    let expected = format!(
        "start,end,source,value,events,lower_bound\r\n{start},{end},app,5,1,false\r\n{start},{end},shop,0.3,2,false\r\n"
    );
    assert_eq!(csv.text, expected);
    let lines = client.send(client.request("GET", &path).header("Accept", "application/x-ndjson")).await;
    let lines: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1], json!({"start": start, "end": end, "group": {"source": "shop"}, "value": "0.3", "events": 2}));
}

async fn several_meters_are_asked_at_once_and_an_error_names_the_question(backend: Backend) {
    let system = with_orders(backend).await;
    let client = &system.client;
    let ask = async |body: String| client.send(client.request("POST", "/meters/query").body(body)).await;
    let (from, to) = ("2026-11-01T12:00:00Z", "2026-11-01T13:00:00Z");
    let questions = json!({"queries": [
        {"meter": "sales", "from": from, "to": to, "filter": {"source": "app"}},
        {"meter": "sales", "from": from, "to": to, "group_by": ["source"], "window": "day"},
    ]});
    let answer = ask(questions.to_string()).await.assert_status(200).json();
    assert_eq!(answer["results"][0]["windows"][0]["groups"][0]["value"], "5", "{answer}");
    assert_eq!(answer["results"][1]["windows"][0]["groups"].as_array().map(Vec::len), Some(2), "{answer}");
    let second = |query: Value| json!({"queries": [{"meter": "sales"}, query]}).to_string();
    let unknown = ask(second(json!({"meter": "x"}))).await.assert_problem(404, "not_found");
    assert_eq!(unknown["index"], 1, "{unknown}");
    let wrong =
        ask(second(json!({"meter": "sales", "group_by": ["topic"]}))).await.assert_problem(400, "invalid_query");
    assert_eq!((&wrong["index"], &wrong["field"]), (&json!(1), &json!("group_by")), "{wrong}");
    ask("{".to_owned()).await.assert_problem(400, "malformed_json");
    ask(json!({"queries": vec![json!({"meter": "sales"}); 21]}).to_string()).await.assert_problem(400, "invalid_query");
}

async fn what_cannot_be_used_is_said_with_its_field_and_changes_nothing(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let put = async |name: &str, body: String| {
        client.send(client.request("PUT", &format!("/meters/{name}")).body(body)).await
    };
    for (name, body, field) in [
        ("UPPER", json!({"aggregation": "count"}), json!("name")),
        ("m", json!({"aggregation": "median"}), json!("aggregation")),
        ("m", json!({"aggregation": "sum"}), json!("value")),
        ("m", json!({"aggregation": "sum", "value": "amount"}), json!("value")),
        ("m", json!({"aggregation": "count", "group_by": ["/a", "/a"]}), json!("group_by")),
        ("m", json!({"aggregation": "count", "colour": "red"}), json!("colour")),
    ] {
        let problem = put(name, body.to_string()).await.assert_problem(422, "invalid_meter");
        assert_eq!(problem["field"], field, "{problem}");
    }
    put("m", "not JSON".to_owned()).await.assert_problem(422, "invalid_meter");
    put("m", format!("{{\"value\":\"{}\"}}", "x".repeat(70_000))).await.assert_problem(413, "body_too_large");
    assert_eq!(client.get_json("/meters").await, json!({"meters": []}));
    for n in 0..32 {
        put(&format!("m{n}"), json!({"aggregation": "count"}).to_string()).await.assert_status(201);
    }
    put("one-more", json!({"aggregation": "count"}).to_string()).await.assert_problem(409, "too_many_meters");
    for (query, field) in [
        ("window=year", "window"),
        ("tz=Mars/Olympus", "tz"),
        ("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "to"),
        ("group_by=source", "group_by"),
        ("filter=x", "filter"),
        ("filter=%7B%22source%22:1%7D", "filter"),
        ("colour=red", "colour"),
    ] {
        let problem = client.get(&format!("/meters/m0?{query}")).await.assert_problem(400, "invalid_query");
        assert_eq!(problem["field"], field, "{query}: {problem}");
    }
}

async fn meters_of_a_file_are_put_at_the_start_and_when_it_changes(backend: Backend) {
    let file = dirs::fresh("meters").join("meters.yaml");
    std::fs::write(&file, "meters:\n- name: sales\n  aggregation: sum\n  value: /amount\n").expect("the file");
    let setup = Setup::new(backend).aggregator("--meters", &file.display().to_string());
    let system = setup.start().await;
    complete(&system.client, "sales").await;
    std::fs::write(&file, "meters: [{name: sales, aggregation: sum}]").expect("the file");
    wait_until("the file that cannot be used is noticed", CATCH_UP, || async {
        let unusable = system.aggregator_metric("sluice_meters_file_unusable").await;
        holds(unusable > 0, || format!("{unusable}"))
    })
    .await;
    std::fs::write(&file, "meters: [{name: orders, aggregation: count}]").expect("the file");
    complete(&system.client, "orders").await;
    let meter = complete(&system.client, "sales").await;
    assert_eq!(meter["value"], "/amount", "what is not in the file any more stays: {meter}");
    assert_eq!(system.aggregator_metric("sluice_meters_file_unusable").await, 0);
}

async fn figures_survive_a_restart(backend: Backend) {
    let mut system = with_orders(backend).await;
    system.restart().await;
    system.publish_and_wait(5, &json!([order("1", "shop", json!(1), 0), order("5", "shop", json!(1), 0)])).await;
    let sales = groups(&system.client, "sales", &format!("{NOON}&group_by=source")).await;
    assert_eq!(sales[1], json!({"group": {"source": "shop"}, "value": "1.3", "events": 3}));
}
