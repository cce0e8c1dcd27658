//! Aggregators are killed, or stopped for a while.

use std::time::{Duration, Instant};

use crate::trial::{CLAIM_AFTER, Trial, acknowledged, cluster, cluster_that_claims_after, nothing_left_of};

const CONSUMERS: [&str; 3] = ["aggregator-0", "aggregator-1", "aggregator-2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_aggregator_held_is_taken_over_by_the_others() {
    let mut trial = Trial::begin_unseen("kill -9 of one of three aggregators", cluster().await).await;
    let mut stream = trial.system.stream().await;
    for _ in 0..3 {
        let lock = trial.hold(&[1]).await;
        trial.system.aggregators[1].kill();
        // The number of entries that were pending for it when it was killed. Nobody else acknowledges them before
        // they are claimed.
        let held = stream.pending_of("aggregator-1").await.unwrap();
        lock.release().await;
        trial.fault(held);
        trial.load.more(500).await;
        nothing_left_of(&mut stream, "aggregator-1").await;
        trial.system.aggregators[1].start().await;
    }
    let tally = trial.end().await;
    assert!(tally.claimed > 0, "{tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_aggregators_drain_their_own_pending_entries_when_they_return() {
    // Nobody claims entries meanwhile: all pending entries wait for their own consumer.
    let setup = cluster_that_claims_after(Duration::from_secs(600)).await;
    let mut trial = Trial::begin_unseen("kill -9 of all aggregators", setup).await;
    let mut stream = trial.system.stream().await;
    for _ in 0..3 {
        trial.carry_over().await;
        let lock = trial.hold(&[0, 1, 2]).await;
        for aggregator in &mut trial.system.aggregators {
            aggregator.kill();
        }
        let mut held = Vec::new();
        for consumer in CONSUMERS {
            held.push(stream.held_by(consumer).await.unwrap());
        }
        lock.release().await;
        trial.fault(held.iter().map(|held| held.len() as u64).sum());
        // Clients do not notice the fault: their events wait in the stream.
        trial.load.more(500).await;
        for aggregator in &mut trial.system.aggregators {
            aggregator.launch();
        }
        for aggregator in &mut trial.system.aggregators {
            aggregator.ready().await;
        }
        for (consumer, held) in CONSUMERS.iter().zip(&held) {
            acknowledged(&mut stream, consumer, held).await;
        }
    }
    let tally = trial.end().await;
    assert!(tally.recovered >= tally.pending, "each entry is drained by the consumer that held it: {tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregator_frozen_past_the_claim_time_does_no_harm_when_it_goes_on() {
    let mut trial = Trial::begin_unseen("SIGSTOP of an aggregator past the claim time", cluster().await).await;
    let mut stream = trial.system.stream().await;
    for _ in 0..3 {
        let lock = trial.hold(&[1]).await;
        trial.system.aggregators[1].freeze();
        let frozen = Instant::now();
        // A signal needs a moment to stop every thread. Commands that were already sent to Redis arrive first.
        trial.load.more(100).await;
        let asked = Instant::now();
        let held = stream.held_by("aggregator-1").await.unwrap();
        lock.release().await;
        trial.fault(held.len() as u64);
        nothing_left_of(&mut stream, "aggregator-1").await;
        // The last entry had been pending for the shortest time. Redis reports this time in milliseconds,
        // rounded.
        let shortest = held.iter().map(|held| held.idle).min().unwrap_or_default();
        let after = asked.elapsed() + shortest + Duration::from_millis(2);
        assert!(after >= CLAIM_AFTER, "taken over after {after:?}: too early");
        // Wait until other replicas have claimed all entries that the stopped one has in memory.
        while frozen.elapsed() < CLAIM_AFTER * 2 {
            trial.load.more(200).await;
        }
        trial.system.aggregators[1].thaw();
        trial.system.aggregators[1].ready().await;
        // It works again: it stores entries that it did not have before.
        trial.commits(1).await;
    }
    let tally = trial.end().await;
    assert!(tally.claimed > 0, "{tally}");
}
