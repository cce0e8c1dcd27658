//! PgBouncer between the aggregators and PostgreSQL, in session mode, leads to a standby that was promoted without the
//! last commits.

use sluice_tests::pgbouncer::PgBouncer;
use sluice_tests::postgres::PostgresServer;
use sluice_tests::{Client, Setup};

use crate::failover::{
    ALL, kill_primary, postgres_mut, primary_is_ahead, repaired, standby_of, stop_replication, stored_by,
};
use crate::trial::{Trial, cluster};

/// Returns a setup whose programs reach PostgreSQL through a pooler only, the pooler, and the standby.
async fn pooled() -> (Setup, PgBouncer, PostgresServer) {
    let setup = cluster().await;
    let address = setup.servers().postgres.address();
    let pooler = tokio::task::block_in_place(|| PgBouncer::start(&address, "session"));
    let standby = standby_of(&setup);
    (setup.database(&pooler.url()), pooler, standby)
}

/// Stores events that the standby does not receive. Returns how many events it has.
async fn get_ahead_of(standby: &PostgresServer, trial: &Trial) -> i64 {
    let received = stop_replication(standby, &trial.system).await;
    trial.load.more(1_000).await;
    for aggregator in ALL {
        trial.commits(aggregator).await;
    }
    received
}

async fn stored_by_primary(trial: &Trial) -> i64 {
    stored_by(&trial.system.servers.as_ref().expect("servers of its own").postgres, &trial.system).await.received
}

/// Returns how many events have arrived, as an aggregator answers.
async fn received_by(trial: &Trial, aggregator: usize) -> i64 {
    let statistics = Client::new(&trial.system.aggregators[aggregator].base()).get_json("/stats").await;
    statistics["received"].as_i64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_standby_lacks_to_which_a_pooler_leads_is_stored_again() {
    let (setup, pooler, mut standby) = pooled().await;
    let mut trial = Trial::begin_unseen("the pooler leads to a lagging standby", setup).await;
    let received = get_ahead_of(&standby, &trial).await;
    kill_primary(&mut trial, received, 300, &ALL).await;
    tokio::task::block_in_place(|| {
        standby.promote();
        pooler.lead_to(&standby.address());
    });
    repaired(&trial.system).await;
    trial.load.more(500).await;
    trial.end().await;
}

/// The connections that the aggregators have stay open, and lead to the former primary, which goes on accepting writes.
/// New ones lead to the standby. One that is opened finds the loss, and all others must be left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_leads_to_two_servers_at_once_loses_nothing() {
    let (setup, pooler, mut standby) = pooled().await;
    let mut trial = Trial::begin_unseen("the pooler leads to two servers at once", setup).await;
    let received = get_ahead_of(&standby, &trial).await;
    tokio::task::block_in_place(|| standby.promote());
    for aggregator in ALL {
        let received = received_by(&trial, aggregator).await;
        assert!(received > 0, "aggregator {aggregator} has no connection for queries");
    }
    let lock = trial.hold(&ALL).await;
    let pending = trial.system.stream().await.pending().await.unwrap();
    tokio::task::block_in_place(|| pooler.lead_to(&standby.address()));
    trial.fault(pending);
    lock.release().await;
    trial.load.more(300).await;
    primary_is_ahead(&trial, received, 300).await;
    let lost = stored_by_primary(&trial).await - received;
    println!("{lost} events were lost");
    // It opens connections.
    trial.system.aggregators[2].kill();
    trial.system.aggregators[2].start().await;
    repaired(&trial.system).await;

    // Nobody writes to the former primary any more.
    let former = stored_by_primary(&trial).await;
    for aggregator in ALL {
        trial.commits(aggregator).await;
    }
    assert_eq!(stored_by_primary(&trial).await, former);
    // Nor is it asked.
    for aggregator in ALL {
        let received = received_by(&trial, aggregator).await;
        assert!(received > former, "aggregator {aggregator} knows {received} events, the former primary {former}");
    }
    postgres_mut(&mut trial.system).kill();
    trial.end().await;
}
