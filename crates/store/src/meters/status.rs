//! Meters as they are shown, and what is done to them.

use sluice_event::Timestamp;
use sluice_meter::{Answer, Definition, Meter};

/// A meter as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMeter {
    /// Its number. A meter that is changed gets another one.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What it counts.
    pub definition: Definition,
    /// When it was added or changed, by the store's clock.
    pub created_at: Timestamp,
    /// Events that were stored before this time had been removed when it was added, so they are not counted; `None` if none had
    /// been removed.
    pub complete_from: Option<Timestamp>,
    /// Where the backfill began.
    pub(crate) first_seq: i64,
    /// Events from here on are counted by the transaction that stores them.
    pub(crate) cut_seq: i64,
    /// The last event that the backfill has counted; `None` when it is complete.
    pub(crate) backfilled_to: Option<i64>,
    /// Number of its windows of a minute.
    pub windows: u64,
    /// Number of events without a value that could be used.
    pub skipped: u64,
    /// One of them.
    pub example: Option<String>,
}

impl StoredMeter {
    /// Returns whether the events before the cut are counted.
    pub fn is_complete(&self) -> bool {
        self.backfilled_to.is_none()
    }

    /// Returns how much of the backfill is done, from 0 to 1, by the numbers of events.
    pub fn progress(&self) -> f64 {
        let Some(done) = self.backfilled_to else { return 1.0 };
        let all = self.cut_seq.saturating_sub(self.first_seq).max(1) as f64;
        ((done.saturating_sub(self.first_seq) + 1).max(0) as f64 / all).min(1.0)
    }

    /// Returns what counting needs of it.
    pub(crate) fn meter(&self) -> Meter {
        Meter { id: self.id, definition: self.definition.clone() }
    }
}

/// A meter as users see it.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterStatus {
    /// The one whose figures are shown.
    pub shown: StoredMeter,
    /// What it is being changed to, while the backfill of that is not complete.
    pub next: Option<StoredMeter>,
}

impl MeterStatus {
    /// Arranges meters by name. The newest complete one is shown, or the oldest if none is complete; the newest one is next.
    pub(crate) fn of_all(mut meters: Vec<StoredMeter>) -> Vec<Self> {
        meters.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let by_name = meters.chunk_by(|a, b| a.name == b.name);
        by_name
            .filter_map(|same| {
                let shown = same.iter().rfind(|meter| meter.is_complete()).or(same.first())?;
                let next = same.last().filter(|newest| newest.id != shown.id);
                Some(Self { shown: shown.clone(), next: next.cloned() })
            })
            .collect()
    }
}

/// What putting a meter has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMeter {
    /// There was none of this name.
    Added,
    /// It is another one now. Its former figures are shown until the new ones are complete.
    Changed,
    /// It was like this already, or only the retention of its windows has changed.
    Unchanged,
    /// There are as many meters as there may be.
    TooMany,
}

/// The meters, as maintenance has left them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MeterFigures {
    /// The meters.
    pub meters: Vec<MeterStatus>,
    /// Whether work is left that the time was not enough for.
    pub more: bool,
}

/// The answer to a question about a meter.
#[derive(Debug)]
pub enum MeterReading {
    /// The figures.
    Figures(Answer),
    /// There would be too many figures.
    TooLarge,
    /// There is no such meter any more.
    Gone,
}
