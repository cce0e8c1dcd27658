//! Postgres dies, or refuses connections for a while.

use std::time::Instant;

use sluice_tests::wait::holds;
use sluice_tests::{Client, wait_until};
use sqlx::{Connection, Executor, PgConnection};

use crate::trial::{CLAIM_AFTER, SOON, Trial, cluster, entries_pending, in_hand_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgres_keeps_what_was_committed_and_gets_the_rest_again() {
    let mut trial = Trial::begin_unseen("kill -9 of Postgres", cluster().await).await;
    let mut stream = trial.system.stream().await;
    while trial.faults() < 3 || trial.recognised().await == 0 {
        assert!(trial.faults() < 30, "nothing was claimed or skipped in 30 kills");
        let pending = entries_pending(&mut stream).await;
        trial.system.servers.as_mut().unwrap().postgres.kill();
        trial.fault(pending);
        // Clients are served meanwhile, for longer than an entry may be held without a word.
        let killed = Instant::now();
        while killed.elapsed() < CLAIM_AFTER + CLAIM_AFTER / 2 {
            trial.load.more(100).await;
        }
        assert!(stream.pending().await.unwrap() > 0, "nobody can have stored anything");
        trial.system.servers.as_mut().unwrap().postgres.start_again();
        trial.load.more(500).await;
        for aggregator in &mut trial.system.aggregators {
            aggregator.ready().await;
        }
    }
    let tally = trial.end().await;
    assert!(tally.claimed + tally.recovered + tally.skipped > 0, "{tally}");
}

/// Meanwhile one replica dies, with what it could not store in hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_refuses_connections_for_a_while_delays_and_loses_nothing() {
    let mut trial = Trial::begin_unseen("Postgres refuses connections", cluster().await).await;
    let mut stream = trial.system.stream().await;
    let url = trial.system.servers.as_ref().unwrap().postgres.maintenance_url();
    let mut other_database = PgConnection::connect(&url).await.unwrap();
    for _ in 0..2 {
        let pending = entries_pending(&mut stream).await;
        other_database.execute("ALTER DATABASE sluice ALLOW_CONNECTIONS false").await.unwrap();
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'sluice'";
        other_database.execute(terminate).await.unwrap();
        trial.fault(pending);
        for aggregator in &trial.system.aggregators {
            let client = Client::new(&aggregator.base());
            wait_until("the aggregator says that it is not ready", SOON, || async {
                let answer = client.get("/readyz").await;
                holds(answer.status == 503, || answer.text)
            })
            .await;
            client.get("/healthz").await.assert_status(200);
        }
        in_hand_of(&mut stream, "aggregator-1").await;
        trial.system.aggregators[1].kill();
        let refused = Instant::now();
        while refused.elapsed() < CLAIM_AFTER + CLAIM_AFTER / 2 {
            trial.load.more(100).await;
        }
        other_database.execute("ALTER DATABASE sluice ALLOW_CONNECTIONS true").await.unwrap();
        trial.system.aggregators[1].launch();
        for aggregator in &mut trial.system.aggregators {
            aggregator.ready().await;
        }
        trial.load.more(500).await;
    }
    let tally = trial.end().await;
    assert!(tally.claimed + tally.recovered + tally.skipped > 0, "{tally}");
}
