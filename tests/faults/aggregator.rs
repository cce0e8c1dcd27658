//! Aggregators die, or stop for a while.

use std::time::{Duration, Instant};

use crate::trial::{CLAIM_AFTER, Trial, cluster, entries_pending, in_hand_of, nothing_left_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_aggregator_held_is_taken_over_by_the_others() {
    let mut trial = Trial::begin_unseen("kill -9 of one of three aggregators", cluster().await).await;
    let mut stream = trial.system.stream().await;
    for _ in 0..100 {
        in_hand_of(&mut stream, "aggregator-1").await;
        trial.system.aggregators[1].kill();
        // What it held at its death, to the entry: nobody else acknowledges it before the claim.
        let held = stream.pending_of("aggregator-1").await.unwrap();
        if held > 0 {
            trial.fault(held);
            trial.load.more(500).await;
            nothing_left_of(&mut stream, "aggregator-1").await;
        }
        trial.system.aggregators[1].start().await;
        if trial.faults() == 3 {
            break;
        }
    }
    let tally = trial.end().await;
    assert_eq!(tally.faults, 3, "{tally}");
    assert!(tally.claimed > 0, "{tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_aggregators_drain_their_own_pending_entries_when_they_return() {
    let mut trial = Trial::begin_unseen("kill -9 of all aggregators", cluster().await).await;
    let mut stream = trial.system.stream().await;
    for _ in 0..100 {
        trial.bank().await;
        entries_pending(&mut stream).await;
        for aggregator in &mut trial.system.aggregators {
            aggregator.kill();
        }
        let held = stream.pending().await.unwrap();
        // Clients do not notice: what they send waits in the stream.
        trial.load.more(500).await;
        for aggregator in &mut trial.system.aggregators {
            aggregator.launch();
        }
        for aggregator in &mut trial.system.aggregators {
            aggregator.ready().await;
        }
        if held > 0 {
            trial.fault(held);
            for consumer in ["aggregator-0", "aggregator-1", "aggregator-2"] {
                nothing_left_of(&mut stream, consumer).await;
            }
        }
        if trial.faults() == 3 {
            break;
        }
    }
    let tally = trial.end().await;
    assert_eq!(tally.faults, 3, "{tally}");
    assert!(tally.recovered > 0, "{tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregator_frozen_past_the_claim_time_does_no_harm_when_it_goes_on() {
    let mut trial = Trial::begin_unseen("SIGSTOP of an aggregator past the claim time", cluster().await).await;
    let mut stream = trial.system.stream().await;
    for _ in 0..100 {
        in_hand_of(&mut stream, "aggregator-1").await;
        trial.system.aggregators[1].freeze();
        let frozen = Instant::now();
        // A signal takes a moment to stop every thread; what was on its way to Redis arrives first.
        trial.load.more(100).await;
        let held = stream.pending_of("aggregator-1").await.unwrap();
        if held > 0 {
            trial.fault(held);
            nothing_left_of(&mut stream, "aggregator-1").await;
            assert!(frozen.elapsed() > CLAIM_AFTER / 2, "taken over after {:?}: too early", frozen.elapsed());
            // Until what it has in memory is long since somebody else's.
            while frozen.elapsed() < CLAIM_AFTER * 2 {
                trial.load.more(200).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        trial.system.aggregators[1].thaw();
        trial.system.aggregators[1].ready().await;
        // It works again: it holds something that it did not hold before.
        in_hand_of(&mut stream, "aggregator-1").await;
        if trial.faults() == 3 {
            break;
        }
    }
    let tally = trial.end().await;
    assert_eq!(tally.faults, 3, "{tally}");
    assert!(tally.claimed > 0, "{tally}");
}
