//! The dashboards: every query of every panel and variable has data.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::audit::run_with;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Load, LoadOptions, Setup, System, wait_until};

use crate::events::{REFUSE, event, execute};
use crate::monitoring::Monitoring;
use crate::operator::{Recorded, tables};
use crate::rules;
use crate::servers::{GENTLE, query_all_the_time};

const SOON: Duration = Duration::from_secs(120);

/// Returns each query of a dashboard, with the panel or the variable that has it, for one resource.
fn queries(dashboard: &str, resource: [(&str, &str); 2]) -> Vec<(String, String)> {
    let text = fs::read_to_string(rules::file(&format!("observability/grafana/{dashboard}.json"))).expect("a file");
    let made: Value = serde_json::from_str(&text).expect("JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of_panels = list(&made["panels"]).into_iter().flat_map(|panel| {
        let title = panel["title"].to_string();
        let expressions = list(&panel["targets"]).into_iter().map(|target| target["expr"].clone());
        expressions.map(|expr| (title.clone(), expr.as_str().expect("a query").to_owned())).collect::<Vec<_>>()
    });
    let of_variables = list(&made["templating"]["list"]).into_iter().filter(|one| one["type"] == "query").map(|one| {
        let query = one["query"]["query"].as_str().expect("a query");
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect("label_values");
        let (selector, label) = inner.rsplit_once(", ").expect("a label");
        (one["name"].to_string(), format!("group by ({label}) ({selector})"))
    });
    let concrete = |query: String| {
        let query = query.replace("$__rate_interval", "10s");
        resource.iter().fold(query, |query, (variable, value)| query.replace(&format!("${variable}"), value))
    };
    of_panels.chain(of_variables).map(|(name, query)| (name, concrete(query))).collect()
}

/// Waits until each query has had a number at some time of the test.
async fn have_data(watch: &Monitoring, dashboard: &str, resource: [(&str, &str); 2]) {
    let queries = queries(dashboard, resource);
    assert!(queries.len() > 10, "{dashboard} has {} queries", queries.len());
    for (name, query) in &queries {
        assert!(!query.contains('$'), "{name}: {query}");
        wait_until(&format!("{dashboard}, {name}: {query} has data"), SOON, || async {
            let series = watch.over_time(query).await;
            let values = series.iter().flat_map(|one| one["values"].as_array().cloned().unwrap_or_default());
            let numbers = values.filter(|value| value[1] != "NaN").count();
            holds(numbers > 0, || format!("{series:?}"))
        })
        .await;
    }
    println!("{dashboard}: {} queries have data", queries.len());
}

/// Makes each thing happen that a panel shows: most series appear when something has happened for the first time.
async fn let_everything_happen(system: &mut System, watch: &Monitoring) {
    execute(system, REFUSE).await;
    let meter = json!({"aggregation": "count", "topics": ["topic-1"]});
    system.client.send(system.client.request("PUT", "/meters/m").body(meter.to_string())).await;
    let schema = json!({"schema": {"required": ["amount"]}});
    system.client.send(system.client.request("PUT", "/topics/orders/schema").body(schema.to_string())).await;
    wait_until("an event is refused by its schema", SOON, || async {
        let answer = system.client.publish_raw(event("orders", "1", "without an amount").to_string()).await;
        holds(answer.status == 422, || format!("{} {}", answer.status, answer.text))
    })
    .await;
    let stream = system.client.request("GET", "/events/tail").header("accept", "text/event-stream");
    let tail = tokio::spawn(async move { stream.send().await });
    let load = Load::start(&system.base(), LoadOptions { batch: 40, ..GENTLE });
    load.more(5_000).await;
    for body in [event("poison", "1", "a"), event("t", "1", "a"), event("t", "1", "b")] {
        system.client.publish(&body).await;
    }
    // A duplicate of an event of long ago is looked up in closed partitions.
    load.repeat_all().await;
    system.servers.as_mut().expect("servers").redis.kill();
    watch.fires("SluiceRedisUnavailable", &[]).await;
    system.servers.as_mut().expect("servers").redis.start_again();
    system.servers.as_mut().expect("servers").postgres.kill();
    watch.fires("SluiceStuck", &[]).await;
    system.servers.as_mut().expect("servers").postgres.start_again();
    system.aggregators[1].kill();
    load.more(500).await;
    system.aggregators[1].start().await;
    watch.ends("SluiceStuck", &[]).await;
    let sent = load.stop().await;
    println!("{sent:?}");
    tail.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_about_programs_has_data() {
    let setup = Setup::without_tls(Backend::RedisPostgres).aggregators(2).publisher("--append-timeout", "1s");
    let setup = setup.replica("--claim-after", "5s").replica("--retention", "1d");
    let mut system = setup.own_servers().await.start().await;
    let watch = Monitoring::of(&mut system).await;
    run_with(&system, &["--record"]).await;
    let queries = query_all_the_time(&system);
    let_everything_happen(&mut system, &watch).await;
    for dashboard in ["overview", "resource"] {
        have_data(&watch, dashboard, [("namespace", "default"), ("eventaggregator", "shop")]).await;
    }
    queries.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_about_the_operator_has_data() {
    let (operator, address) = Recorded::serve().await;
    let watch = Monitoring::of_operator(&address, &tables(1 << 30).await).await;
    // Without any reconcile there is no time that it takes.
    let reconciling = tokio::spawn(async move {
        for reconciles in 100.. {
            operator.set("sluice_operator_reconcile_seconds", f64::from(reconciles));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    have_data(&watch, "operator", [("namespace", "accounts"), ("name", "ledger")]).await;
    reconciling.abort();
}

/// The tests name each alert that they make fire, so a new one without a test is found here.
#[test]
fn every_alert_is_made_to_fire_by_a_test() {
    let folder = rules::file("tests/observability");
    let sources = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let sources: String = sources
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).expect("a source"))
        .collect();
    let alerts = rules::names();
    let shown = |name: &&String| !sources.contains(&format!("fires(\"{name}\""));
    let missing: Vec<_> = alerts.iter().filter(shown).collect();
    assert!(missing.is_empty() && alerts.len() > 20, "no test makes these fire: {missing:?}");
}
