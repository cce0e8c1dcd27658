//! What the fault tests have in common: a system under load and watch, and the reckoning.

use std::time::Duration;

use sluice_tests::stream::StreamReader;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Load, LoadOptions, Setup, System, Tally, Watch, ledger, wait_until};

/// After how long an entry is taken over from a replica that holds it.
pub const CLAIM_AFTER: Duration = Duration::from_secs(3);
/// Snapshots of the database that must have been checked before a test may end.
const MOMENTS: u64 = 30;
/// How long anything may take that has to happen.
pub const SOON: Duration = Duration::from_secs(60);

/// A system under load and watch.
pub struct Trial {
    /// What is being broken.
    pub system: System,
    /// Who uses it meanwhile.
    pub load: Load,
    name: &'static str,
    watch: Watch,
    faults: u64,
    in_hand: u64,
    /// Claimed, recovered and skipped, by processes that were killed since.
    banked: [u64; 3],
}

/// Three replicas that claim soon, on servers of their own.
pub async fn cluster() -> Setup {
    let claim_after = format!("{}ms", CLAIM_AFTER.as_millis());
    let setup = Setup::new(Backend::RedisPostgres).aggregators(3);
    setup.replica("--claim-after", &claim_after).own_servers().await
}

impl Trial {
    /// Starts the system, the watch and the load, and waits until events flow.
    pub async fn begin(name: &'static str, setup: Setup) -> Self {
        Self::begin_with(name, setup, LoadOptions::default()).await
    }

    /// [`Trial::begin`] for a fault that clients do not see: half of them send without a key, so
    /// that nothing but the entries' own receipts tells a redelivery.
    pub async fn begin_unseen(name: &'static str, setup: Setup) -> Self {
        let half = LoadOptions::default().clients / 2;
        Self::begin_with(name, setup, LoadOptions { unkeyed: half, ..LoadOptions::default() }).await
    }

    async fn begin_with(name: &'static str, setup: Setup, options: LoadOptions) -> Self {
        let system = setup.start().await;
        let watch = Watch::start(&system.store);
        let load = Load::start(&system.base(), options);
        load.more(2_000).await;
        Self { system, load, name, watch, faults: 0, in_hand: 0, banked: [0; 3] }
    }

    /// Notes a fault, with how much was in hand when it came.
    pub fn fault(&mut self, in_hand: u64) {
        assert!(in_hand > 0, "a fault with nothing in hand shows nothing");
        self.faults += 1;
        self.in_hand += in_hand;
    }

    /// Faults noted so far.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Adds up what the aggregators have counted: to be called before they are all killed, since
    /// their counters die with them.
    pub async fn bank(&mut self) {
        self.banked = self.counted().await;
    }

    /// How often something was seen to come round again: entries claimed, entries found as one's
    /// own after a restart, receipts that were there already.
    pub async fn recognised(&self) -> u64 {
        self.counted().await.iter().sum()
    }

    async fn counted(&self) -> [u64; 3] {
        counted(&self.system, self.banked).await
    }

    /// Lets events flow once more, stops the load, and compares everything to the event.
    pub async fn end(self) -> Tally {
        self.load.more(1_000).await;
        wait_until("enough snapshots are checked", SOON, || async {
            holds(self.watch.checked() >= MOMENTS, || format!("{} of {MOMENTS}", self.watch.checked()))
        })
        .await;
        let sent = self.load.stop().await;
        let end = ledger::settle(&self.system, &sent).await;
        assert_eq!(sent.accepted, end.arrived(), "accepted = received + dead-lettered");
        if self.system.backend == Backend::RedisPostgres {
            let mut stream = self.system.stream().await;
            assert_eq!(stream.pending().await.unwrap(), 0, "nothing stays pending");
        }
        let [claimed, recovered, skipped] = counted(&self.system, self.banked).await;
        let tally = Tally {
            name: self.name.to_owned(),
            sent: sent.sent,
            accepted: sent.accepted,
            repeats: sent.repeats,
            end,
            faults: self.faults,
            pending: self.in_hand,
            claimed,
            recovered,
            skipped,
            snapshots: self.watch.finish(),
        };
        println!("{tally}");
        assert!(tally.faults > 0, "no fault was made");
        tally
    }
}

async fn counted(system: &System, mut sums: [u64; 3]) -> [u64; 3] {
    for (sum, metric) in sums.iter_mut().zip([CLAIMED, RECOVERED, SKIPPED]) {
        *sum += system.aggregator_metric(metric).await;
    }
    sums
}

const CLAIMED: &str = "sluice_entries_claimed_total";
const RECOVERED: &str = "sluice_entries_recovered_total";
const SKIPPED: &str = "sluice_receipts_skipped_total";

/// Waits for a moment at which entries are pending, and answers how many: what follows at once
/// hits them.
pub async fn entries_pending(stream: &mut StreamReader) -> u64 {
    wait_until("entries are pending", SOON, || {
        let mut stream = stream.clone();
        async move {
            let pending = stream.pending().await.map_err(|e| e.to_string())?;
            holds(pending > 0, || "none".into()).map(|()| pending)
        }
    })
    .await
}

/// Waits for a moment at which this consumer has entries in hand.
pub async fn in_hand_of(stream: &mut StreamReader, consumer: &str) {
    wait_until(&format!("entries are pending for {consumer}"), SOON, || {
        let mut stream = stream.clone();
        async move {
            let pending = stream.pending_of(consumer).await.map_err(|e| e.to_string())?;
            holds(pending > 0, || "none".into())
        }
    })
    .await;
}

/// Waits until nothing is pending for this consumer: others have taken it over.
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
