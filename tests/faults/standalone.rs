//! The one process that is everything dies.

use std::path::Path;
use std::time::Duration;

use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, wait_until};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::trial::{SOON, Trial};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_standalone_process_goes_on_where_it_was() {
    let mut trial = Trial::begin("kill -9 of the standalone process", Setup::new(Backend::Standalone)).await;
    let log = trial.system.dir.join("data/log.db");
    for _ in 0..200 {
        trial.bank().await;
        let client = &trial.system.client;
        wait_until("events are accepted and not stored", SOON, || async {
            let stats = client.get("/stats").await;
            holds(stats.status == 200 && stats.json()["backlog"].as_u64() > Some(0), || stats.text)
        })
        .await;
        trial.system.aggregators[0].kill();
        let held = unacknowledged(&log).await;
        let repeats = trial.load.repeats();
        let load = &trial.load;
        wait_until("clients see no answer", Duration::from_secs(10), || async {
            holds(load.repeats() > repeats, || "no request was repeated".into())
        })
        .await;
        trial.system.aggregators[0].start().await;
        trial.load.more(500).await;
        if held > 0 {
            trial.fault(held);
        }
        if trial.faults() >= 5 && trial.recognised().await > 0 {
            break;
        }
    }
    let tally = trial.end().await;
    assert!(tally.faults >= 5 && tally.repeats > 0, "{tally}");
    assert!(tally.recovered + tally.skipped > 0, "nothing was drained or skipped after its return: {tally}");
}

/// Entries in the log's file that the dead process had not acknowledged.
async fn unacknowledged(log: &Path) -> u64 {
    let mut connection = SqliteConnectOptions::new().filename(log).read_only(true).connect().await.unwrap();
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM entries").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    entries.cast_unsigned()
}
