//! Bytes of the files change, or are cut off, while the servers are stopped. What is damaged is put aside or reported,
//! and never stored or returned as if it were right. Each test publishes few events, whose bytes it finds in the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_tests::wait::{holds, wait_blocking};
use sluice_tests::{Backend, Setup, System};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use crate::trial::SOON;

/// A request of one event. Its payload contains `secret-ID` and is too small to be compressed.
fn event(id: &str) -> Value {
    json!({"topic": "t", "event_id": id, "payload": {"text": format!("secret-{id}")}})
}

/// A request of so many events, which the publisher compresses. The payload of the first contains `secret-ID`.
fn large(id: &str, events: usize) -> Value {
    let text = |n: usize| if n == 0 { format!("secret-{id}") } else { "like the others ".repeat(4) };
    (0..events).map(|n| json!({"topic": "t", "event_id": format!("{id}-{n}"), "payload": {"text": text(n)}})).collect()
}

/// Changes one letter of the first `secret-ID` in a file. The text around it stays valid.
fn damage(file: &Path, id: &str) {
    let mut bytes = fs::read(file).unwrap();
    let secret = format!("secret-{id}");
    let at = find(&bytes, secret.as_bytes(), 0).unwrap_or_else(|| panic!("no {secret} in {}", file.display()));
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn find(bytes: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(wanted.len()).position(|window| window == wanted).map(|at| from + at)
}

/// Returns the ids of the stored events, sorted.
async fn stored(system: &System) -> Vec<String> {
    let mut ids: Vec<_> = system.reader().await.rows().await.unwrap().into_iter().map(|(_, id, _)| id).collect();
    ids.sort_unstable();
    ids
}

/// Returns the newest incremental file of Redis' append-only file. Redis must run.
async fn append_only_file(system: &System) -> PathBuf {
    let (url, _) = system.stream.clone().unwrap();
    let mut connection = sluice_tests::redis::connect(&url).await.unwrap();
    let (_, dir): (String, String) =
        redis::cmd("CONFIG").arg("GET").arg("dir").query_async(&mut connection).await.unwrap();
    let files = fs::read_dir(Path::new(&dir).join("appendonlydir")).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.to_string_lossy().ends_with(".incr.aof")).max().expect("an incremental file")
}

/// Of a request each with `a`, with `b` and 49 others, with `c` and with `d`, the damaged ones are dead letters.
async fn assert_that_b_and_c_are_put_aside(system: &System) {
    let end = system.wait_until_stored(53).await;
    assert_eq!(
        (end.received, end.unique, end.rows, end.dead_lettered),
        (2, 2, 2, 51),
        "accepted = received + put aside"
    );
    assert_eq!(stored(system).await, ["a", "d"]);
    assert_put_aside(system, &[50, 1]).await;
}

/// Checks that the dead letters are these numbers of events of damaged entries, newest first, of which nothing is shown.
async fn assert_put_aside(system: &System, events: &[u64]) {
    for (letter, events) in system.dead_letters(events.len()).await.iter().zip(events) {
        assert_eq!((&letter["code"], &letter["events"]), (&json!("damaged"), &json!(events)), "{letter}");
        assert_eq!(letter["content"], json!([]), "{letter}");
        let replay = system.client.post(&format!("/dead-letters/{}/replay", letter["id"])).await;
        replay.assert_problem(409, "still_refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_was_damaged_in_the_append_only_file_is_put_aside_and_the_others_are_stored() {
    let mut system = Setup::new(Backend::RedisPostgres).own_servers().await.start().await;
    system.aggregators[0].kill();
    for request in [event("a"), event("b"), large("c", 50), event("d")] {
        system.client.publish(&request).await;
    }
    let file = append_only_file(&system).await;
    let redis = &mut system.servers.as_mut().unwrap().redis;
    redis.kill();
    damage(&file, "b");
    damage(&file, "c");
    redis.start_again();
    system.aggregators[0].start().await;

    assert_that_b_and_c_are_put_aside(&system).await;
    assert_eq!(system.aggregator_metric("sluice_damaged_entries_total").await, 2);
    // The client still has the event, and can send it again.
    let end = system.publish_and_wait(53, &event("b")).await;
    assert_eq!((end.rows, end.fault()), (3, None));
}

/// Redis cannot know that its file was longer: what was cut off is lost although it was answered. All else stays exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_cut_append_only_file_is_stored_once_and_the_rest_can_be_sent_again() {
    let mut system = Setup::new(Backend::RedisPostgres).own_servers().await.start().await;
    system.client.publish_keyed("a", &event("a")).await.assert_status(202);
    system.wait_until_stored(1).await;
    let file = append_only_file(&system).await;
    let acknowledged = || {
        let bytes = fs::read(&file).unwrap();
        let at = find(&bytes, b"secret-a", 0).and_then(|at| find(&bytes, b"XACK", at));
        at.ok_or_else(|| "no XACK after the entry".to_owned())
    };
    wait_blocking("the entry is acknowledged", SOON, acknowledged);
    system.aggregators[0].kill();
    for id in ["b", "c"] {
        system.client.publish_keyed(id, &event(id)).await.assert_status(202);
    }

    // The last bytes: the append of `c` is incomplete.
    cut(&mut system, &file, fs::metadata(&file).unwrap().len() - 5);
    system.aggregators[0].start().await;
    system.wait_until_stored(2).await;
    assert_eq!(stored(&system).await, ["a", "b"]);

    // All from the acknowledgement of `a` on: `a` is delivered again, and skipped by its receipt.
    system.aggregators[0].kill();
    cut(&mut system, &file, acknowledged().unwrap() as u64 + 2);
    system.aggregators[0].start().await;
    sluice_tests::wait_until("the entry is delivered again and skipped", SOON, || async {
        let skipped = system.aggregator_metric("sluice_receipts_skipped_total").await;
        holds(skipped == 1, || format!("{skipped} skipped"))
    })
    .await;
    // Clients that send their requests again get all of them stored, each once.
    for id in ["a", "b", "c"] {
        system.client.publish_keyed(id, &event(id)).await.assert_status(202);
    }
    let end = system.wait_until_stored(3).await;
    assert_eq!((end.unique, end.duplicates, end.dead_lettered, end.fault()), (3, 0, 0, None));
    assert_eq!(stored(&system).await, ["a", "b", "c"]);
}

/// Kills Redis, cuts its file to this length and starts it again.
fn cut(system: &mut System, file: &Path, length: u64) {
    let redis = &mut system.servers.as_mut().unwrap().redis;
    redis.kill();
    fs::File::options().write(true).open(file).unwrap().set_len(length).unwrap();
    redis.start_again();
}

/// Stops PostgreSQL in order, so that its files are complete, does something with them, and starts it again. Passes the
/// file of the table of events, the folder of the data, and that of the programs.
async fn with_files_of_postgres(system: &mut System, work: impl FnOnce(&Path, &Path, &Path)) {
    let (_, schema) = system.stream.clone().unwrap();
    // An aggregator would find some of its connections closed, and answer 503 once for each.
    system.aggregators[0].kill();
    let postgres = &mut system.servers.as_mut().unwrap().postgres;
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let files = "SELECT current_setting('data_directory'), pg_relation_filepath(format('%I.event_rows_1', $1)::regclass), \
                 (SELECT setting FROM pg_config WHERE name = 'BINDIR')";
    let files = sqlx::query_as(files).bind(schema).fetch_one(&mut connection).await.unwrap();
    let (data, table, programs): (String, String, String) = files;
    connection.close().await.unwrap();
    postgres.process().signal(Signal::INT);
    let data = Path::new(&data);
    wait_blocking("Postgres has ended", Duration::from_secs(120), || {
        holds(!data.join("postmaster.pid").exists(), || "it runs".to_owned())
    });
    postgres.kill();
    work(&data.join(table), data, Path::new(&programs));
    postgres.start_again();
    system.aggregators[0].start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_of_postgres_is_reported_by_its_checksum() {
    let mut system = Setup::new(Backend::RedisPostgres).own_servers().await.start().await;
    system.publish_and_wait(0, &json!([event("a"), event("b"), event("c")])).await;
    with_files_of_postgres(&mut system, |table, data, programs| {
        let enabled = Command::new(programs.join("pg_checksums")).args(["--enable", "-D"]).arg(data).output().unwrap();
        assert!(enabled.status.success(), "{}", String::from_utf8_lossy(&enabled.stderr));
        damage(table, "b");
    })
    .await;
    for path in ["/events", "/events/t/a", "/events/t/b"] {
        let problem = system.client.get(path).await.assert_problem(500, "store_damaged");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("damaged")), "{problem}");
    }
    let log = system.aggregators[0].log();
    assert!(log.contains("invalid page in block"), "the log has PostgreSQL's message: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_row_of_a_postgres_without_checksums_is_marked_and_its_payload_is_not_returned() {
    let mut system = Setup::new(Backend::RedisPostgres).own_servers().await.start().await;
    system.publish_and_wait(0, &json!([event("a"), event("b"), event("c")])).await;
    with_files_of_postgres(&mut system, |table, _, _| damage(table, "b")).await;
    assert_marked(&system).await;
}

/// Checks that of the events `a`, `b` and `c` the damaged `b` is marked, in each form in which it is returned.
async fn assert_marked(system: &System) {
    let page = system.client.get_json("/events?limit=10").await;
    let lines = system.client.request("GET", "/events").header("Accept", "application/x-ndjson");
    let lines = system.client.send(lines).await.assert_status(200).text;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(page["events"], json!(lines), "both forms are alike");
    for event in &lines {
        let id = event["event_id"].as_str().unwrap();
        let payload = json!({"text": format!("secret-{id}")});
        let expected = if id == "b" { (None, Some(&json!(true))) } else { (Some(&payload), None) };
        assert_eq!((event.get("payload"), event.get("damaged")), expected, "{event}");
    }
    assert_eq!(lines.len(), 3, "{lines:?}");
    system.client.get("/events/t/b").await.assert_problem(500, "store_damaged");
    system.client.get("/events/t/a").await.assert_status(200);
    assert_eq!(system.aggregator_metric("sluice_damaged_rows_total").await, 3, "each time that the row was read");
    assert!(system.aggregators[0].log().contains("a stored event is damaged"), "the log says so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_was_damaged_in_the_file_of_the_log_is_put_aside_and_the_others_are_stored() {
    let mut system = Setup::new(Backend::Standalone).start().await;
    let data = system.dir.join("data");
    // While the test holds the write lock of the store, entries stay in the log.
    let store = SqliteConnectOptions::new().filename(data.join("store.db")).busy_timeout(SOON);
    let mut lock = store.connect().await.unwrap();
    lock.execute("BEGIN IMMEDIATE").await.unwrap();
    for request in [event("a"), event("b"), large("c", 50), event("d")] {
        system.client.publish(&request).await;
    }
    system.aggregators[0].kill();
    lock.close().await.unwrap();
    // Closing the last connection moves the write-ahead log into the file.
    let log = data.join("log.db");
    let mut connection = SqliteConnectOptions::new().filename(&log).connect().await.unwrap();
    connection.execute("SELECT count(*) FROM entries").await.unwrap();
    connection.close().await.unwrap();
    damage(&log, "b");
    damage(&log, "c");
    system.aggregators[0].start().await;

    assert_that_b_and_c_are_put_aside(&system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_row_of_the_standalone_store_is_marked_and_its_payload_is_not_returned() {
    let mut system = Setup::new(Backend::Standalone).start().await;
    system.publish_and_wait(0, &json!([event("a"), event("b"), event("c")])).await;
    assert!(system.aggregators[0].terminate().is_some_and(|status| status.success()));
    damage(&system.dir.join("data/store.db"), "b");
    system.aggregators[0].start().await;
    assert_marked(&system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standalone_that_was_not_closed_does_not_start_with_a_file_whose_structure_is_damaged() {
    let mut system = Setup::new(Backend::Standalone).start().await;
    let data = system.dir.join("data");
    system.publish_and_wait(0, &event("a")).await;
    assert!(system.aggregators[0].terminate().is_some_and(|status| status.success()));
    for file in ["store.db-wal", "log.db-wal"] {
        assert!(!data.join(file).exists(), "{file} is there although the process ended in order");
    }
    system.aggregators[0].start().await;
    system.publish_and_wait(1, &event("b")).await;
    system.publish_and_wait(2, &event("c")).await;
    system.aggregators[0].kill();

    // The first byte of a page says of which type it is.
    let places = [
        ("log.db", first_byte_of(&data.join("log.db"), "keys").await),
        ("store.db-wal", 1_000),
        ("store.db", first_byte_of(&data.join("store.db"), "audit").await),
    ];
    for (name, at) in places {
        let file = data.join(name);
        let intact = fs::read(&file).unwrap();
        let mut damaged = intact.clone();
        damaged[at] ^= 0x40;
        fs::write(&file, damaged).unwrap();
        let program = &mut system.aggregators[0];
        let before = program.log().len();
        program.launch();
        wait_blocking("it says what is damaged", SOON, || {
            let log = program.log()[before..].to_owned();
            holds(log.contains(&format!("{name} is damaged")) && log.contains("restore a backup"), || log)
        });
        assert!(program.terminate().is_some_and(|status| !status.success()), "it ends with an error");
        fs::write(&file, intact).unwrap();
    }
    // Nothing was changed: with the right bytes it goes on where it was.
    system.aggregators[0].start().await;
    let end = system.publish_and_wait(3, &event("d")).await;
    assert_eq!((end.rows, end.fault()), (4, None));
    assert!(system.aggregators[0].log().contains("was not closed, and is not damaged"), "the files were checked");
}

/// Returns the place of the first byte of the first page of a table, which is in no write-ahead log.
async fn first_byte_of(file: &Path, table: &str) -> usize {
    let mut connection = SqliteConnectOptions::new().filename(file).read_only(true).connect().await.unwrap();
    let page = "SELECT (rootpage - 1) * page_size FROM sqlite_schema, pragma_page_size WHERE name = ?";
    let at: i64 = sqlx::query_scalar(page).bind(table).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    usize::try_from(at).unwrap()
}
