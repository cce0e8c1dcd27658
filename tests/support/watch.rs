//! Checks the counts during the whole test, not only at the end.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::store::{StoreAddress, StoreReader};

/// How often a snapshot is taken, unless the test decides otherwise.
const EVERY: Duration = Duration::from_millis(100);

/// Reads the counts, usually every 100 ms, each time in one snapshot of the database, and records the first that are not
/// possible. If the database does not respond, the next attempt is made after the usual interval.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    checked: u64,
    missed: u64,
    fault: Option<String>,
}

impl Watch {
    /// Starts the watch.
    pub fn start(store: &StoreAddress) -> Self {
        Self::start_every(EVERY, store)
    }

    /// Starts a watch that reads the counts at this interval. A test that stores many rows reads them less often,
    /// because each snapshot counts all of them.
    pub fn start_every(every: Duration, store: &StoreAddress) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(watch(every, store.clone(), seen.clone()));
        Self { seen, task }
    }

    /// Returns how many snapshots were consistent so far. Fails if one was not.
    pub fn checked(&self) -> u64 {
        let seen = self.seen.lock().expect("the lock");
        assert!(seen.fault.is_none(), "a snapshot broke the promise: {}", seen.fault.as_deref().unwrap_or_default());
        seen.checked
    }

    /// Ends the watch, and returns how many snapshots were consistent. Fails if one was not, or if there were
    /// none.
    pub fn finish(self) -> u64 {
        self.task.abort();
        let checked = self.checked();
        assert!(checked > 0, "no snapshot could be read");
        checked
    }
}

async fn watch(every: Duration, store: StoreAddress, seen: Arc<Mutex<Seen>>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut reader: Option<StoreReader> = None;
    // Where older programs have begun, the series lack what these have stored.
    let mut has_series = None;
    loop {
        ticks.tick().await;
        let snapshot = timeout(Duration::from_secs(10), async {
            let mut connected = match reader.take() {
                Some(reader) => reader,
                None => StoreReader::connect(&store).await?,
            };
            let mut fault = connected.snapshot().await?.fault();
            let from_the_start = match has_series {
                Some(has_series) => has_series,
                None => *has_series.insert(connected.has_series().await?),
            };
            if fault.is_none() && from_the_start {
                fault = connected.series_fault().await?;
            }
            reader = Some(connected);
            Ok::<_, sqlx::Error>(fault)
        })
        .await;
        let mut seen = seen.lock().expect("the lock");
        match snapshot {
            Ok(Ok(fault)) => {
                seen.checked += 1;
                if let Some(fault) = fault {
                    seen.fault.get_or_insert(fault);
                }
            }
            _ => seen.missed += 1,
        }
    }
}
