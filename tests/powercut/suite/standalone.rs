//! `standalone`, whose two SQLite files are on the disk that loses its power.

use sluice_powercut::Loss;
use sluice_tests::{Backend, LoadOptions, Setup};

use crate::trial::{Trial, disk, no_duplicates, seeds};

/// The write-ahead log of the store. SQLite writes a transaction only there, until it is copied to the file.
const STORE: &str = "store.db-wal";
/// The write-ahead log of the log.
const LOG: &str = "log.db-wal";

async fn begin(unsynced: Option<&str>, seed: u64, load: LoadOptions) -> Trial {
    let disk = disk("disk-of-standalone", seed);
    if let Some(name) = unsynced {
        disk.disk().ignore_sync(name);
    }
    let system = Setup::new(Backend::Standalone).data_in(&disk.path().join("data")).start().await;
    Trial::begin(system, vec![disk], seed, load).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_power_cuts_what_was_answered_is_stored_once_and_every_number_is_exact() {
    for seed in seeds() {
        let mut trial = begin(None, seed, LoadOptions::default()).await;
        let losses = [Loss::Everything, Loss::Pages, Loss::TornPages, Loss::Zeros, Loss::TornPages, Loss::Zeros];
        for (round, loss) in losses.into_iter().enumerate() {
            if round % 2 == 0 {
                // Events are accepted that are in the log alone.
                trial.disks[0].disk().hold(STORE);
                trial.load.more(300).await;
            }
            trial.any_moment().await;
            trial.cut(loss).await.unwrap();
            trial.load.more(500).await;
        }
        trial.end().await;
    }
}

/// With `synchronous = NORMAL` SQLite syncs the write-ahead log only before a checkpoint, and not at a commit. The
/// programs have no setting for it. Therefore the disk answers the sync of the log without doing it, which is the
/// same as long as no checkpoint is reached, and this test ends before one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_synchronous_normal_in_the_store_stored_events_are_lost() {
    let mut trial = begin(Some(STORE), 1, no_duplicates()).await;
    trial.cut(Loss::Everything).await.unwrap();
    let lost = trial.lost().await;
    assert!(lost > 0, "the power cut lost nothing, though no commit of the store was synced");
}

/// Like the test before, for the log of events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_synchronous_normal_in_the_log_answered_events_are_lost() {
    let mut trial = begin(Some(LOG), 1, no_duplicates()).await;
    trial.disks[0].disk().hold(STORE);
    trial.load.more(300).await;
    trial.cut(Loss::Everything).await.unwrap();
    let lost = trial.lost().await;
    assert!(lost > 0, "the power cut lost nothing, though no answer was synced");
}
