//! PostgreSQL fails over by itself: Patroni promotes a standby that has not received everything.

use sluice_tests::patroni::Patroni;
use sluice_tests::store::StoreAddress;
use sluice_tests::wait::holds;
use sluice_tests::{StoreReader, TableLock, wait_until};

use crate::trial::{SOON, Trial, cluster};

/// Nothing is told to the programs: they find the new primary among the hosts of their URL, and notice what it lacks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_patroni_replaces_loses_nothing_that_was_answered() {
    let mut patroni = tokio::task::block_in_place(Patroni::start);
    let setup = cluster().await.database(&patroni.url());
    let mut trial = Trial::begin_unseen("Patroni promotes a lagging standby", setup).await;
    wait_until("the standby has received events", SOON, || async {
        let stored = stored_by(&patroni, 1, &trial).await?;
        holds(stored > 0, || "none".into())
    })
    .await;
    patroni.hold_replication();
    let received = stored_by(&patroni, 1, &trial).await.unwrap();
    trial.load.more(1_000).await;
    for aggregator in 0..3 {
        trial.commits(aggregator).await;
    }
    // Each replica has a batch in flight, however fast the machine is.
    let lock = TableLock::take(&address_of(&patroni, 0, &trial)).await;
    for aggregator in &trial.system.aggregators {
        lock.holds_up(aggregator.name()).await;
    }
    let in_flight = trial.system.stream().await.pending().await.unwrap();
    let lost = stored_by(&patroni, 0, &trial).await.unwrap() - received;
    assert!(lost > 0, "the standby has everything");
    tokio::task::block_in_place(|| patroni.kill(0));
    drop(lock);
    trial.fault(in_flight);
    let promoted = tokio::task::block_in_place(|| patroni.wait_until_primary(1));
    println!("{lost} events were lost; Patroni promoted the standby after {promoted:.1?}");
    trial.load.more(500).await;
    wait_until("the loss is found and repaired", SOON, || async {
        let losses = trial.system.aggregator_metric("sluice_store_losses_total").await;
        let pending = trial.system.aggregator_metric("sluice_replay_pending").await;
        holds(losses > 0 && pending == 0, || format!("found {losses} times, {pending} replicas wait"))
    })
    .await;
    trial.end().await;
}

/// Returns the number of events that a node has stored.
async fn stored_by(patroni: &Patroni, node: usize, trial: &Trial) -> Result<i64, String> {
    let address = address_of(patroni, node, trial);
    let mut reader = StoreReader::connect(&address).await.map_err(|error| error.to_string())?;
    let snapshot = reader.snapshot().await.map_err(|error| error.to_string())?;
    Ok(snapshot.received)
}

/// Returns where the system's tables are on a node.
fn address_of(patroni: &Patroni, node: usize, trial: &Trial) -> StoreAddress {
    let StoreAddress::Postgres { schema, .. } = &trial.system.store else { unreachable!("it is in Postgres") };
    StoreAddress::Postgres { url: patroni.url_of_node(node), schema: schema.clone() }
}
