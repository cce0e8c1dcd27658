//! Power cuts of the disk on which the spool of a client is: what was confirmed is stored once. As root, with `/dev/fuse`.
//!
//! ```sh
//! cargo build -p sluice-client --examples && cargo test -p sluice-client --test powercut
//! ```
//!
//! `SEED=n` chooses the first seed, and `SEEDS=n` how many follow each other.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on its output what it saw"
)]

#[path = "../client/server.rs"]
#[allow(dead_code, reason = "the other suite uses all of it")]
mod server;
#[path = "../client/wait.rs"]
#[allow(dead_code, reason = "the other suite uses all of it")]
mod wait;
#[path = "../client/writer.rs"]
#[allow(dead_code, reason = "the other suite uses all of it")]
mod writer;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use sluice_powercut::{Loss, Mount};
use tempfile::TempDir;

use self::server::Server;
use self::wait::{holds, wait_until};
use self::writer::{Writer, confirmed};

/// A client whose spool is on a disk that loses its power, and a server that does not.
struct Trial {
    server: Server,
    disk: Mount,
    dir: TempDir,
    seed: u64,
    run: usize,
}

impl Trial {
    async fn new(seed: u64) -> Self {
        println!("SEED={seed}");
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("disk");
        std::fs::create_dir(&mount).unwrap();
        let disk = Mount::new(&mount, seed).unwrap();
        Self { server: Server::start().await, disk, dir, seed, run: 0 }
    }

    /// Lets a client send until it has confirmed some events more, and cuts the power at any moment behind.
    async fn cut(&mut self, loss: Loss) {
        let before = confirmed(self.dir.path()).len();
        let spool = self.disk.path().join("spool");
        let mut writer = Writer::start(&self.server.url(), &spool, self.dir.path(), self.run);
        wait_until("events are confirmed", async || {
            writer.assert_runs();
            let now = confirmed(self.dir.path()).len();
            holds(now >= before + 50, now)
        })
        .await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..200))).await;
        self.run += 1;
        self.disk.disk().cut();
        // A process that waits for the disk ends when that fails, and sees no answer any more.
        writer.send_kill();
        self.disk.restore(loss, self.seed + self.run as u64);
        drop(writer);
    }

    /// Returns the ids that were confirmed, and those that are stored once all of the spool is delivered.
    async fn end(self) -> (BTreeSet<String>, BTreeSet<String>) {
        Writer::drain(&self.server.url(), &self.disk.path().join("spool"), self.dir.path()).await;
        let stored: BTreeSet<_> = self.server.events("killed").await.into_keys().collect();
        let stats = self.server.stats().await;
        let counts = (stats["received"].as_u64(), stats["duplicate_dropped"].as_u64());
        assert_eq!(counts, (Some(stored.len() as u64), Some(0)), "a batch was repeated under another key");
        (confirmed(self.dir.path()), stored)
    }
}

fn seeds() -> Range<u64> {
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().expect(name));
    let first = number("SEED", rand::random_range(0..1_000_000));
    first..first + number("SEEDS", 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_power_cuts_what_a_client_confirmed_is_stored_once() {
    for seed in seeds() {
        let mut trial = Trial::new(seed).await;
        for (round, loss) in
            [Loss::Everything, Loss::Pages, Loss::TornPages, Loss::Zeros].into_iter().cycle().take(8).enumerate()
        {
            // In every second round the server is away, so that what the client confirms stays in the spool.
            if round % 2 == 0 {
                trial.server.kill();
            } else {
                trial.server.launch();
            }
            trial.cut(loss).await;
        }
        trial.server.ready().await;
        let (confirmed, stored) = trial.end().await;
        let lost: Vec<_> = confirmed.difference(&stored).collect();
        assert!(lost.is_empty(), "{} of {} confirmed events are not stored: {lost:?}", lost.len(), confirmed.len());
    }
}

/// Otherwise the test before would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_does_not_sync_confirmed_events_are_lost() {
    let mut trial = Trial::new(1).await;
    trial.disk.disk().ignore_sync("0000000000000001.segment");
    trial.server.kill();
    trial.cut(Loss::Everything).await;
    trial.server.launch();
    trial.server.ready().await;
    let (confirmed, stored) = trial.end().await;
    assert!(confirmed.difference(&stored).count() > 0, "the power cut lost nothing, though no segment was synced");
}
