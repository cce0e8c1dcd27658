//! The page for browsers, and the overview that it asks for. `make test-ui` tests what a person does with the page.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::audit::{exact, run, run_with};
use sluice_tests::store::StoreAddress;
use sluice_tests::wait::holds;
use sluice_tests::{Answer, Backend, Client, Setup, wait_until};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::common::{event, events, system};

on_both_backends!(
    the_page_is_served_with_a_policy_that_allows_nothing_from_elsewhere,
    a_client_that_has_the_page_is_not_sent_it_again,
    without_the_page_its_paths_are_not_found,
    the_overview_has_the_counts_of_the_statistics_and_how_long_events_took,
    many_questions_for_the_overview_are_answered_by_one,
    the_overview_has_the_last_audit_that_was_noted,
);

const SOON: Duration = Duration::from_secs(60);

/// Returns the paths of what the page loads.
fn assets(page: &Answer) -> Vec<String> {
    let values =
        page.text.split([' ', '>']).filter_map(|word| word.strip_prefix("src=\"").or(word.strip_prefix("href=\"")));
    let paths = values.map(|value| value.trim_end_matches('"').to_owned());
    paths.filter(|path| path.contains('.') || path.contains(':')).collect()
}

async fn the_page_is_served_with_a_policy_that_allows_nothing_from_elsewhere(backend: Backend) {
    let system = system(backend).await;
    let page = system.client.get("/").await.assert_status(200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let assets = assets(&page);
    assert_eq!(assets, ["ui/icon.svg", "ui/app.css", "ui/app.js"], "{}", page.text);
    let mut answers = vec![page];
    for path in assets {
        answers.push(system.client.get(&format!("/{path}")).await.assert_status(200));
    }
    for answer in &answers {
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!policy.contains("http"), "{policy}");
        for (name, value) in
            [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("cache-control", "no-cache")]
        {
            assert_eq!(answer.headers[name], value, "{name}");
        }
    }
    let types: Vec<_> = answers.iter().map(Answer::content_type).collect();
    assert_eq!(types[1..], ["image/svg+xml", "text/css", "text/javascript"]);
    system.client.get("/ui/none.js").await.assert_problem(404, "not_found");
}

async fn a_client_that_has_the_page_is_not_sent_it_again(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let ask = |coding: &str, known: &str| {
        let request = client.request("GET", "/ui/app.js").header("Accept-Encoding", coding);
        client.send(request.header("If-None-Match", known))
    };
    let (plain, gzip) =
        (ask("identity", "\"\"").await.assert_status(200), ask("gzip", "\"\"").await.assert_status(200));
    assert_eq!(gzip.headers["content-encoding"], "gzip");
    assert!(!plain.headers.contains_key("content-encoding"));
    let length = |answer: &Answer| answer.headers["content-length"].to_str().unwrap().parse::<usize>().unwrap();
    assert!(length(&gzip) * 2 < length(&plain), "{} and {}", length(&gzip), length(&plain));
    let tag = |answer: &Answer| answer.headers["etag"].to_str().unwrap().to_owned();
    assert_ne!(tag(&plain), tag(&gzip));
    for (coding, answer) in [("identity", &plain), ("gzip", &gzip)] {
        let again = ask(coding, &tag(answer)).await.assert_status(304);
        assert_eq!((tag(&again), again.text.as_str()), (tag(answer), ""));
    }
    ask("identity", &tag(&gzip)).await.assert_status(200);
}

async fn without_the_page_its_paths_are_not_found(backend: Backend) {
    let system = Setup::new(backend).env("SLUICE_UI", "false").start().await;
    for path in ["/", "/ui/app.js"] {
        system.client.get(path).await.assert_problem(404, "not_found");
    }
    system.client.get("/overview").await.assert_status(200);
}

async fn the_overview_has_the_counts_of_the_statistics_and_how_long_events_took(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..70)).await;
    system.publish_and_wait(70, &json!([event("t", "evt-1"), event("u", "evt-1")])).await;
    let (overview, _) = wait_until("the overview has the last events", SOON, || async {
        let overview = system.client.get_json("/overview").await;
        let is_new = overview["totals"]["received"] == 72;
        holds(is_new, || overview.to_string()).map(|()| (overview, ()))
    })
    .await;
    let totals = json!({"received": 72, "unique_processed": 71, "duplicate_dropped": 1, "conflicts": 0, "dead_lettered": 0,
        "topic_count": 2, "dedup_horizon": null});
    assert_eq!(overview["totals"], totals);
    assert_eq!(overview["log"], json!({"backlog": 0, "unread_entries": 0, "pending_entries": 0}));
    // The servers of the tests need not be durable, and nothing else is wrong.
    let notes = overview["notes"].as_array().unwrap();
    assert!(notes.iter().all(|note| note.as_str().is_some_and(|note| note.contains("durability"))), "{overview}");
    let stats = system.client.get_json("/stats").await;
    let names = |list: &Value| list.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&overview["replicas"]), names(&stats["consumers"]));
    assert!(overview["replica"].as_str().is_some_and(|name| !name.is_empty()), "{overview}");
    // The replica that has answered may be one that has stored nothing.
    if let Value::Object(latency) = &overview["latency"] {
        let seconds = |name: &str| latency[name].as_f64().unwrap();
        assert!(latency["events"].as_u64().is_some_and(|events| (1..=72).contains(&events)), "{overview}");
        let ordered =
            seconds("p50_seconds") <= seconds("p99_seconds") && seconds("p99_seconds") <= seconds("max_seconds");
        assert!(ordered && seconds("max_seconds") < 60.0, "{overview}");
    }
    let latencies = async {
        let mut events = 0;
        for program in &system.aggregators {
            let overview = Client::new(&program.base()).get_json("/overview").await;
            events += overview["latency"]["events"].as_u64().unwrap_or(0);
        }
        events
    };
    if !system.aggregators.is_empty() {
        assert_eq!(latencies.await, 72, "each event was stored by one replica");
    }
    system.client.get("/overview?x=1").await.assert_problem(400, "invalid_query");
}

async fn many_questions_for_the_overview_are_answered_by_one(backend: Backend) {
    let system = system(backend).await;
    let answers = futures::future::join_all((0..100).map(|_| system.client.get_json("/overview"))).await;
    let mut made: Vec<_> = answers.iter().map(|answer| answer["at"].as_str().unwrap().to_owned()).collect();
    made.sort_unstable();
    made.dedup();
    let replicas = system.aggregators.len().max(1);
    // The first answers may be two seconds old when the last question comes.
    assert!(made.len() <= 2 * replicas, "{} answers of {replicas} replicas were made", made.len());
}

async fn the_overview_has_the_last_audit_that_was_noted(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..5)).await;
    assert_eq!(run(&system).await.code, Some(0));
    assert_eq!(system.client.get_json("/overview").await["audit"], Value::Null, "this audit has noted nothing");
    for (options, rows) in [(&["--record"][..], Value::Null), (&["--record", "--check-rows"], json!(5))] {
        assert_eq!(run_with(&system, options).await.code, Some(0));
        wait_until("the audit is shown", SOON, || async {
            let audit = system.client.get_json("/overview").await["audit"].clone();
            let is_shown = audit["verdict"] == "exact" && audit["differing"] == 0 && audit["rows_compared"] == rows;
            holds(is_shown && audit["comparisons"].as_u64() > Some(3), || audit.to_string())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_fills_itself_and_is_accounted_for() {
    let system = Setup::new(Backend::Standalone).env("SLUICE_DEMO", "true").start().await;
    wait_until("events and duplicates of the demo are stored", SOON, || async {
        let totals = system.client.get_json("/overview").await["totals"].clone();
        let is_enough =
            totals["unique_processed"].as_u64() > Some(30) && totals["duplicate_dropped"].as_u64() > Some(3);
        holds(is_enough && totals["dead_lettered"] == 0, || totals.to_string())
    })
    .await;
    let topics = system.client.get_json("/topics").await;
    let topics: Vec<_> =
        topics["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].as_str().unwrap()).collect();
    assert!(topics.len() > 5 && topics.iter().all(|topic| topic.starts_with("demo.")), "{topics:?}");
    let meters = system.client.get_json("/meters").await;
    assert_eq!(meters["meters"].as_array().map(Vec::len), Some(2), "{meters}");
    exact(&system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_is_answered_while_the_store_is_locked_and_says_what_is_not_known() {
    let system = system(Backend::RedisPostgres).await;
    system.publish_and_wait(0, &events("t", 0..5)).await;
    let StoreAddress::Postgres { url, schema } = &system.store else { unreachable!("it is in Postgres") };
    let mut lock = PgConnection::connect(url).await.unwrap();
    let sql = format!("BEGIN; LOCK TABLE \"{schema}\".counters IN ACCESS EXCLUSIVE MODE");
    lock.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    let overview = wait_until("the overview says that the counts are not known", SOON, || async {
        let overview = system.client.get_json("/overview").await;
        let is_said = overview["totals"].is_null() && overview["notes"].to_string().contains("the store");
        holds(is_said, || overview.to_string()).map(|()| overview)
    })
    .await;
    assert_eq!(overview["log"]["backlog"], 0, "what is known is there: {overview}");
    lock.close().await.unwrap();
    wait_until("the counts are known again", SOON, || async {
        let overview = system.client.get_json("/overview").await;
        holds(overview["totals"]["received"] == 5, || overview.to_string())
    })
    .await;
}
