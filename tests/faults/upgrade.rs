//! Two versions of the programs side by side, as during a rollout and when it is taken back.

use std::path::{Path, PathBuf};

use sluice_tests::program;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::trial::{SOON, Trial, cluster};

/// Names the folder with the programs of an older commit.
const OLD_PROGRAMS: &str = "SLUICE_OLD_BIN_DIR";

/// The order is that of docs/architecture.md: aggregators first, and publishers first on the way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the programs of an older commit: make test-upgrade builds them"]
async fn a_rollout_of_these_programs_and_its_rollback_lose_nothing_under_load() {
    let old = PathBuf::from(std::env::var_os(OLD_PROGRAMS).unwrap_or_else(|| panic!("{OLD_PROGRAMS} is not set")));
    let new = program::folder();
    let setup = cluster().await.programs_from(&old);
    let mut trial =
        Trial::begin("rollout of the new programs and rollback to the old ones", setup).await.without_feed();
    for number in 0..3 {
        replace_aggregator(&mut trial, number, &new).await;
    }
    replace_publisher(&mut trial, &new).await;
    replace_publisher(&mut trial, &old).await;
    for number in 0..3 {
        replace_aggregator(&mut trial, number, &old).await;
    }
    // Forward again, over what the new programs had prepared before the rollback.
    replace_aggregator(&mut trial, 0, &new).await;
    let tally = trial.end().await;
    assert_eq!(tally.faults, 9, "{tally}");
}

/// Replaces a replica while the others run, and waits until it stores events beside the other version.
async fn replace_aggregator(trial: &mut Trial, number: usize, folder: &Path) {
    let in_flight = requests_in_flight(trial).await;
    let aggregator = &mut trial.system.aggregators[number];
    let status = aggregator.terminate();
    assert!(status.is_some_and(|status| status.success()), "{}: {status:?}", aggregator.name());
    aggregator.take_from(folder);
    aggregator.start().await;
    trial.fault(in_flight);
    trial.commits(number).await;
    trial.load.more(300).await;
}

/// Replaces the publisher; its clients repeat what it did not answer.
async fn replace_publisher(trial: &mut Trial, folder: &Path) {
    let in_flight = requests_in_flight(trial).await;
    let publisher = trial.system.publisher.as_mut().unwrap();
    let status = publisher.terminate();
    assert!(status.is_some_and(|status| status.success()), "the publisher: {status:?}");
    publisher.take_from(folder);
    publisher.start().await;
    trial.fault(in_flight);
    trial.load.more(300).await;
}

async fn requests_in_flight(trial: &Trial) -> u64 {
    let load = &trial.load;
    wait_until("requests are in flight", SOON, || async {
        let in_flight = load.in_flight();
        holds(in_flight > 0, || "none".into()).map(|()| in_flight)
    })
    .await
}
