//! Postgres is killed, or refuses connections for a while.

use std::time::Instant;

use sluice_tests::proxy::Cut;
use sluice_tests::proxy::postgres::PostgresProxy;
use sluice_tests::wait::holds;
use sluice_tests::{Client, wait_until};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::trial::{CLAIM_AFTER, SOON, Trial, cluster, in_flight_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgres_keeps_what_was_committed_and_gets_the_rest_again() {
    let setup = cluster().await;
    let proxy = PostgresProxy::start(&setup.servers().postgres.address(), Cut::After).await;
    let mut trial = Trial::begin_unseen("kill -9 of Postgres", setup.postgres_through(proxy.address())).await;
    let mut stream = trial.system.stream().await;
    let mut committed = 0;
    for round in 0..4 {
        let lock = if round % 2 == 0 {
            // A batch is committed, but no aggregator receives the response: its entries stay in flight.
            proxy.hold_responses();
            wait_until("a batch is committed and its response is held back", SOON, || async {
                holds(proxy.held() > 0, || "no response is held back".to_owned())
            })
            .await;
            committed += 1;
            None
        } else {
            // All batches are in the middle of their transactions.
            Some(trial.hold(&[0, 1, 2]).await)
        };
        let pending = stream.pending().await.unwrap();
        trial.system.servers.as_mut().unwrap().postgres.kill();
        drop(lock);
        proxy.lose_responses();
        trial.fault(pending);
        // Clients are served meanwhile, for longer than an entry may be pending before it is claimed.
        let killed = Instant::now();
        while killed.elapsed() < CLAIM_AFTER + CLAIM_AFTER / 2 {
            trial.load.more(100).await;
        }
        assert!(stream.pending().await.unwrap() > 0, "nothing can have been stored");
        trial.system.servers.as_mut().unwrap().postgres.start_again();
        trial.load.more(500).await;
        for aggregator in &mut trial.system.aggregators {
            aggregator.ready().await;
        }
    }
    let tally = trial.end().await;
    assert!(tally.skipped >= committed, "what was committed is skipped by its receipts: {tally}");
}

/// One replica is killed during the outage, while entries that it could not store are in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_refuses_connections_for_a_while_delays_and_loses_nothing() {
    let mut trial = Trial::begin_unseen("Postgres refuses connections", cluster().await).await;
    let mut stream = trial.system.stream().await;
    let url = trial.system.servers.as_ref().unwrap().postgres.maintenance_url();
    let mut other_database = PgConnection::connect(&url).await.unwrap();
    for _ in 0..2 {
        let lock = trial.hold(&[0, 1, 2]).await;
        let pending = stream.pending().await.unwrap();
        other_database.execute("ALTER DATABASE sluice ALLOW_CONNECTIONS false").await.unwrap();
        // The lock is released last, so that nothing is stored meanwhile.
        let terminate = format!(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = 'sluice' AND pid <> {}",
            lock.pid(),
        );
        other_database.execute(AssertSqlSafe(terminate)).await.unwrap();
        lock.release().await;
        trial.fault(pending);
        for aggregator in &trial.system.aggregators {
            let client = Client::new(&aggregator.base());
            wait_until("the aggregator reports that it is not ready", SOON, || async {
                let answer = client.get("/readyz").await;
                holds(answer.status == 503, || answer.text)
            })
            .await;
            client.get("/healthz").await.assert_status(200);
        }
        // Nothing can be stored, so the entries that it reads now stay pending.
        in_flight_of(&mut stream, "aggregator-1").await;
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
