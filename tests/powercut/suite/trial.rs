//! A system under load whose machine loses its power.

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sluice_powercut::{Loss, Mount};
use sluice_tests::{Follower, Load, LoadOptions, Sent, System, TableLock, dirs, ledger};

/// For how long nothing may change until a system that has lost events counts as quiet.
const QUIET: Duration = Duration::from_secs(2);
/// The timeout for a system that has lost events to become quiet.
const PATIENCE: Duration = Duration::from_secs(120);

/// A system under load, on disks that can lose their power.
pub struct Trial {
    /// The load on the system.
    pub load: Load,
    /// The system. It is dropped before the disks, because it uses them.
    pub system: System,
    /// The disks of its machine.
    pub disks: Vec<Mount>,
    random: StdRng,
    cuts: u64,
    seed: u64,
    follower: Follower,
}

/// Returns a load for a test that expects a loss. Each event is sent once: a second sending would store it again.
pub fn no_duplicates() -> LoadOptions {
    LoadOptions { duplicate: 0.0, ..LoadOptions::default() }
}

/// Returns the seeds that were asked for: one, unless `SEEDS` says more.
pub fn seeds() -> Range<u64> {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    let first = number("SEED", 1);
    first..first + number("SEEDS", 1)
}

/// Mounts an empty disk.
pub fn disk(name: &str, seed: u64) -> Mount {
    Mount::new(&dirs::fresh(name), seed).unwrap_or_else(|reason| panic!("{reason}"))
}

impl Trial {
    /// Starts the load on a system that runs, and waits until events are accepted.
    pub async fn begin(system: System, disks: Vec<Mount>, seed: u64, load: LoadOptions) -> Self {
        let follower = Follower::start(&system.base());
        let load = Load::start(&system.base(), load);
        load.more(1_000).await;
        Self { load, system, disks, random: StdRng::seed_from_u64(seed), cuts: 0, seed, follower }
    }

    /// Waits for any moment within the next 50 ms.
    pub async fn any_moment(&mut self) {
        tokio::time::sleep(Duration::from_micros(self.random.random_range(0..50_000))).await;
    }

    /// Prevents that anything is stored, and waits until events are accepted that are in Redis alone.
    pub async fn accepted_and_not_stored(&self) -> TableLock {
        let lock = TableLock::take(&self.system.store).await;
        lock.holds_up_any().await;
        self.load.more(300).await;
        lock
    }

    /// Cuts the power of all disks at once, kills every process, and starts what is left. `Err` says which server
    /// does not start.
    pub async fn cut(&mut self, loss: Loss) -> Result<(), String> {
        self.cut_without_start(loss);
        self.start().await
    }

    /// Cuts the power of all disks at once, kills every process, and mounts what is left.
    pub fn cut_without_start(&mut self, loss: Loss) {
        self.cuts += 1;
        let seed = self.random.random();
        println!("seed {}, power cut {}: {loss:?}, seed of the disks {seed}", self.seed, self.cuts);
        for disk in &self.disks {
            disk.disk().cut();
        }
        self.kill_all();
        tokio::task::block_in_place(|| {
            for disk in &mut self.disks {
                disk.restore(loss, seed);
            }
        });
    }

    /// Starts every server and every program. `Err` says which server does not start.
    pub async fn start(&mut self) -> Result<(), String> {
        tokio::task::block_in_place(|| {
            let Some(servers) = &mut self.system.servers else { return Ok(()) };
            servers.redis.try_start_again()?;
            servers.postgres.try_start_again()
        })?;
        for program in self.system.programs() {
            program.launch();
        }
        for program in self.system.programs() {
            program.ready().await;
        }
        Ok(())
    }

    /// All get their signal before any request to a disk is answered, so that nobody sees an answer after the cut.
    fn kill_all(&mut self) {
        for program in self.system.programs() {
            program.process().send_kill();
        }
        if let Some(servers) = &self.system.servers {
            servers.redis.process().send_kill();
            servers.postgres.process().send_kill();
        }
        for disk in &self.disks {
            disk.disk().fail();
        }
        for program in self.system.programs() {
            program.kill();
        }
        if let Some(servers) = &mut self.system.servers {
            servers.redis.kill();
            servers.postgres.kill();
        }
    }

    /// Stops the load, and compares every event, every number and every row.
    pub async fn end(self) {
        self.load.more(500).await;
        let sent = self.load.stop().await;
        let end = ledger::final_comparison(&self.system, &sent).await;
        self.follower.finish(&self.system).await;
        let series = self.system.reader().await.series_fault().await.expect("the series");
        assert_eq!(series, None);
        println!("seed {}: {} power cuts, {} requests repeated, {end:?}", self.seed, self.cuts, sent.repeats);
    }

    /// Stops the load, waits until nothing changes, and returns how many accepted events have no row.
    pub async fn lost(self) -> u64 {
        self.load.more(500).await;
        let Self { load, system, .. } = self;
        let sent = load.stop().await;
        let rows = quiet(&system, &sent).await;
        println!("seed {}: {rows} rows of {} distinct accepted events", self.seed, sent.distinct);
        sent.distinct - rows
    }
}

/// Waits until nothing is in flight, and returns the number of rows.
async fn quiet(system: &System, sent: &Sent) -> u64 {
    let mut reader = system.reader().await;
    let started = Instant::now();
    let mut last = (reader.snapshot().await.expect("the counts"), Instant::now());
    loop {
        let now = reader.snapshot().await.expect("the counts");
        if now != last.0 {
            last = (now, Instant::now());
        }
        let all = now.arrived() >= sent.accepted;
        let backlog = system.client.get_json("/stats").await["backlog"].as_u64();
        if backlog == Some(0) && (all || last.1.elapsed() > QUIET) {
            return now.rows.cast_unsigned();
        }
        assert!(started.elapsed() < PATIENCE, "not quiet: {now:?}, backlog {backlog:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
