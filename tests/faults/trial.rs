//! Shared parts of the fault tests: a system under load and watch, and the final comparison.

use std::time::Duration;

use sluice_tests::meters;
use sluice_tests::stream::{Held, StreamReader};
use sluice_tests::wait::holds;
use sluice_tests::{
    Backend, Follower, Load, LoadOptions, Setup, System, TableLock, Tally, Watch, audit, ledger, wait_until,
};

/// The time after which another replica claims a pending entry.
pub const CLAIM_AFTER: Duration = Duration::from_secs(5);
/// The minimum number of checked snapshots of the database in a test.
const MIN_SNAPSHOTS: u64 = 30;
/// The timeout for every condition that a test waits for.
pub const SOON: Duration = Duration::from_secs(180);

/// A system under load and watch.
pub struct Trial {
    /// The system in which the test causes faults.
    pub system: System,
    /// The load on the system.
    pub load: Load,
    name: &'static str,
    watch: Watch,
    /// Reads the feed during the test; `None` if programs of the test do not have it.
    follower: Option<Follower>,
    faults: u64,
    in_flight: u64,
    /// Whether the programs know meters, which older ones do not.
    has_meters: bool,
    /// The entries claimed, recovered and skipped by processes that were killed since.
    carried_over: [u64; 3],
}

/// Returns the setup of three replicas with a short claim time, on servers that only this test uses.
pub async fn cluster() -> Setup {
    cluster_that_claims_after(CLAIM_AFTER).await
}

/// Returns the setup of three replicas with this claim time, on servers that only this test uses.
pub async fn cluster_that_claims_after(claim_after: Duration) -> Setup {
    let claim_after = format!("{}ms", claim_after.as_millis());
    let setup = Setup::new(Backend::RedisPostgres).aggregators(3);
    setup.replica("--claim-after", &claim_after).own_servers().await
}

impl Trial {
    /// Starts the system, the watch and the load, and waits until events are stored.
    pub async fn begin(name: &'static str, setup: Setup) -> Self {
        Self::begin_with(name, setup, LoadOptions::default()).await
    }

    /// Like [`Trial::begin`], for a fault that clients do not notice. Half of the clients send without a key, so
    /// that only the receipts of the entries can identify a redelivery.
    pub async fn begin_unseen(name: &'static str, setup: Setup) -> Self {
        let half = LoadOptions::default().clients / 2;
        // A slow machine alone must not cause a request to be refused.
        let setup = setup.publisher("--append-timeout", "2m");
        Self::begin_with(name, setup, LoadOptions { unkeyed: half, ..LoadOptions::default() }).await
    }

    async fn begin_with(name: &'static str, setup: Setup, options: LoadOptions) -> Self {
        let system = setup.start().await;
        let watch = Watch::start(&system.store);
        let follower = Some(Follower::start(&system.base()));
        let has_meters = meters::begin(&system.client).await;
        let load = Load::start(&system.base(), options);
        load.more(2_000).await;
        if has_meters {
            meters::change(&system.client).await;
        }
        Self { system, load, name, watch, follower, faults: 0, in_flight: 0, has_meters, carried_over: [0; 3] }
    }

    /// Does not follow the feed: programs of the test do not have it.
    pub fn without_feed(self) -> Self {
        Self { follower: None, ..self }
    }

    /// Records a fault, and the number of entries in flight at that moment.
    pub fn fault(&mut self, in_flight: u64) {
        assert!(
            in_flight > 0,
            "nothing is in flight at the fault, though nothing could be stored or answered before it"
        );
        self.faults += 1;
        self.in_flight += in_flight;
    }

    /// Adds the counters of the aggregators to the carried sums. It must be called before they are all killed,
    /// because their counters are in memory only.
    pub async fn carry_over(&mut self) {
        self.carried_over = counted(&self.system, self.carried_over).await;
    }

    /// Prevents all replicas from storing, and waits until each of these aggregators has a batch in flight. The
    /// next fault hits these batches, for as long as the lock is held.
    pub async fn hold(&self, aggregators: &[usize]) -> TableLock {
        let lock = TableLock::take(&self.system.store).await;
        for number in aggregators {
            lock.holds_up(self.system.aggregators[*number].name()).await;
        }
        lock
    }

    /// Waits until this aggregator stores an entry that it did not have before the call.
    pub async fn commits(&self, aggregator: usize) {
        let name = self.system.aggregators[aggregator].name();
        let received = async || {
            let mut reader = self.system.reader().await;
            reader.received_by(name).await.map_err(|error| error.to_string())
        };
        let before = wait_until("the counters of a replica", SOON, &received).await;
        wait_until(&format!("{name} stores events"), SOON, || async {
            let now = received().await?;
            holds(now > before, || format!("{now} events, as before"))
        })
        .await;
    }

    /// Waits until more events are stored, stops the load, and compares every event.
    pub async fn end(self) -> Tally {
        self.end_if(true).await
    }

    /// Like [`Trial::end`], after a failover of Redis. An entry may be stored before the replicas have it. If it is lost
    /// then, it is appended again, and the log has counted it once, but the store has accounted for it twice: as stored,
    /// and as skipped. So the counters of the log are not compared with those of the store.
    pub async fn end_after_failover(self) -> Tally {
        self.end_if(false).await
    }

    async fn end_if(self, counters_agree: bool) -> Tally {
        self.load.more(1_000).await;
        wait_until("enough snapshots are checked", SOON, || async {
            holds(self.watch.checked() >= MIN_SNAPSHOTS, || format!("{} of {MIN_SNAPSHOTS}", self.watch.checked()))
        })
        .await;
        let sent = self.load.stop().await;
        let end = ledger::final_comparison(&self.system, &sent).await;
        assert_eq!(sent.accepted, end.arrived(), "accepted = received + dead-lettered");
        if self.has_meters {
            meters::compare(&self.system).await;
        }
        if let Some(follower) = self.follower {
            follower.finish(&self.system).await;
        }
        // A test on a cluster has no single stream. Its backlog was 0 above.
        if self.system.stream.is_some() {
            let mut stream = self.system.stream().await;
            assert_eq!(stream.pending().await.unwrap(), 0, "nothing stays pending");
        }
        if counters_agree {
            audit::exact(&self.system).await;
        }
        let [claimed, recovered, skipped] = counted(&self.system, self.carried_over).await;
        let tally = Tally {
            name: self.name.to_owned(),
            sent: sent.sent,
            accepted: sent.accepted,
            repeats: sent.repeats,
            end,
            faults: self.faults,
            pending: self.in_flight,
            claimed,
            recovered,
            skipped,
            snapshots: self.watch.finish(),
        };
        println!("{tally}");
        assert!(tally.faults > 0, "the test caused no fault");
        tally
    }
}

/// Returns the sums, with the current values of the counters added: claimed, recovered, skipped.
async fn counted(system: &System, mut sums: [u64; 3]) -> [u64; 3] {
    for (sum, metric) in sums.iter_mut().zip([CLAIMED, RECOVERED, SKIPPED]) {
        *sum += system.aggregator_metric(metric).await;
    }
    sums
}

const CLAIMED: &str = "sluice_entries_claimed_total";
const RECOVERED: &str = "sluice_entries_recovered_total";
const SKIPPED: &str = "sluice_receipts_skipped_total";

/// Waits until this consumer has entries in flight, at a time when nothing can be stored.
pub async fn in_flight_of(stream: &mut StreamReader, consumer: &str) {
    wait_until(&format!("entries are pending for {consumer}"), SOON, || {
        let mut stream = stream.clone();
        async move {
            let pending = stream.pending_of(consumer).await.map_err(|e| e.to_string())?;
            holds(pending > 0, || "none".into())
        }
    })
    .await;
}

/// Waits until this consumer, which continues to read, has acknowledged these entries.
pub async fn acknowledged(stream: &mut StreamReader, consumer: &str, held: &[Held]) {
    wait_until(&format!("{consumer} has acknowledged its entries"), SOON, || {
        let mut stream = stream.clone();
        async move {
            let now = stream.held_by(consumer).await.map_err(|e| e.to_string())?;
            let left = held.iter().filter(|entry| now.iter().any(|other| other.id == entry.id)).count();
            holds(left == 0, || format!("{left} of {} entries are pending", held.len()))
        }
    })
    .await;
}

/// Waits until nothing is pending for this consumer, because others have claimed it.
pub async fn nothing_left_of(stream: &mut StreamReader, consumer: &str) {
    wait_until(&format!("the entries of {consumer} are taken over"), SOON, || {
        let mut stream = stream.clone();
        async move {
            let pending = stream.pending_of(consumer).await.map_err(|e| e.to_string())?;
            holds(pending == 0, || format!("{pending} pending"))
        }
    })
    .await;
}
