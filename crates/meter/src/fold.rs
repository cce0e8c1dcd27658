//! Adds rows of batches to the windows that are stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::Damaged;
use crate::batch::{self, Record};
use crate::window::Window;

/// The lengths of the windows that are stored, in minutes. All offsets of present time zones are multiples of a quarter of an
/// hour, and most are of an hour: with the longer windows, questions about long times read few rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Length {
    /// Everything whose minute has no window of its own ([`MAX_WINDOWS`]): one window without a time.
    Beyond,
    /// A minute.
    Minute,
    /// A quarter of an hour.
    Quarter,
    /// An hour.
    Hour,
}

impl Length {
    /// Those that are made of minutes.
    pub const LONGER: [Self; 2] = [Self::Quarter, Self::Hour];

    /// Returns the length of so many minutes; [`Length::Beyond`] for a number that is none.
    pub fn of_minutes(minutes: i64) -> Self {
        let all = [Self::Minute, Self::Quarter, Self::Hour];
        all.into_iter().find(|length| length.minutes() == minutes).unwrap_or(Self::Beyond)
    }

    /// Returns the number of minutes.
    pub fn minutes(self) -> i64 {
        match self {
            Self::Beyond => 0,
            Self::Minute => 1,
            Self::Quarter => 15,
            Self::Hour => 60,
        }
    }
}

/// The largest number of windows of a minute that a meter has: nearly two years. Times of events can lie anywhere, so what would
/// need more is counted in one window without a time.
pub const MAX_WINDOWS: u64 = 1_000_000;

/// A window that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowKey {
    /// The meter.
    pub meter: i64,
    /// How long it is.
    pub length: Length,
    /// The minute since 1970 with which it begins, a multiple of its length.
    pub start: i64,
}

/// The events that a meter has skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub events: u64,
    /// One of them.
    pub example: Option<String>,
}

/// What is added to the windows that are stored.
#[derive(Debug, Default)]
pub struct Additions {
    windows: HashMap<WindowKey, Window>,
    skipped: BTreeMap<i64, Skipped>,
}

impl Additions {
    /// Adds the row of a batch. What meters have counted that are not in `meters` any more is left out.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn add_batch(&mut self, row: &[u8], meters: &HashSet<i64>) -> Result<(), Damaged> {
        batch::records(row, |record| match record {
            Record::Skipped { meter, events, example } => {
                if events > 0 && meters.contains(&meter) {
                    let skipped = self.skipped.entry(meter).or_default();
                    skipped.events += events;
                    skipped.example = example.map(str::to_owned).or(skipped.example.take());
                }
                Ok(())
            }
            Record::Figure { meter, minute, group, figure } if meters.contains(&meter) => {
                let key = WindowKey { meter, length: Length::Minute, start: minute };
                self.windows.entry(key).or_default().add(group, figure)
            }
            Record::Figure { .. } => Ok(()),
        })
    }

    /// Returns the windows to which something is added.
    pub fn keys(&self) -> Vec<WindowKey> {
        let mut keys: Vec<_> = self.windows.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// Moves what would need too many windows to the one without a time. `stored` are the windows of a minute that are stored
    /// already, of those of [`Additions::keys`], and `room` returns how many more a meter may have. Returns how many windows of
    /// a minute each meter will have more.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn bound(
        &mut self,
        stored: &HashSet<WindowKey>,
        room: impl Fn(i64) -> u64,
    ) -> Result<BTreeMap<i64, u64>, Damaged> {
        let mut new: BTreeMap<i64, u64> = BTreeMap::new();
        // Of those that do not fit, the latest: they are the ones that are not to be expected.
        for key in self.keys().into_iter().filter(|key| !stored.contains(key)) {
            let count = new.entry(key.meter).or_default();
            if *count < room(key.meter) {
                *count += 1;
                continue;
            }
            let beyond = WindowKey { length: Length::Beyond, start: 0, ..key };
            if let Some(window) = self.windows.remove(&key) {
                self.windows.entry(beyond).or_default().add_all(&window)?;
            }
        }
        Ok(new)
    }

    /// Adds the minutes to longer windows. Called once, after [`Additions::bound`].
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn add_longer(&mut self) -> Result<(), Damaged> {
        let mut shorter: Vec<_> = self.keys().into_iter().filter(|key| key.length == Length::Minute).collect();
        for length in Length::LONGER {
            let mut longer: HashMap<WindowKey, Window> = HashMap::new();
            for key in &shorter {
                let start = key.start.div_euclid(length.minutes()) * length.minutes();
                let key_of_longer = WindowKey { length, start, ..*key };
                let Some(window) = self.windows.get(key) else { continue };
                longer.entry(key_of_longer).or_default().add_all(window)?;
            }
            shorter = longer.keys().copied().collect();
            self.windows.extend(longer);
        }
        Ok(())
    }

    /// Removes windows and returns their new contents, with what is stored of them.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn take_with(
        &mut self,
        keys: &[WindowKey],
        stored: &[(WindowKey, Vec<u8>)],
    ) -> Result<Vec<(WindowKey, Vec<u8>)>, Damaged> {
        for (key, content) in stored {
            self.windows.entry(*key).or_default().add_encoded(content)?;
        }
        Ok(keys.iter().filter_map(|key| Some((*key, self.windows.remove(key)?.encode()))).collect())
    }

    /// Returns what was skipped, by meters.
    pub fn skipped(&self) -> &BTreeMap<i64, Skipped> {
        &self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Aggregation, Definition};
    use crate::recorder::{Counted, Recorder};
    use crate::set::{Meter, Set};
    use sluice_event::Timestamp;
    use std::sync::Arc;

    /// Returns the rows of a transaction with an event in each of these minutes.
    fn rows(minutes: &[i64]) -> Vec<Vec<u8>> {
        let definition = Definition::parse(br#"{"aggregation":"count"}"#).unwrap();
        let mut recorder = Recorder::new(Arc::new(Set::new(&[Meter { id: 7, definition }]).unwrap()));
        recorder.add_all(minutes.iter().map(|minute| {
            let timestamp = Timestamp::from_micros(minute * 60_000_000).unwrap();
            Counted { topic: "a", event_id: "1", source: None, payload: "1", timestamp, received_at: timestamp }
        }));
        recorder.encode()
    }

    fn additions(minutes: &[i64]) -> Additions {
        let mut additions = Additions::default();
        for row in rows(minutes) {
            additions.add_batch(&row, &HashSet::from([7])).unwrap();
        }
        additions
    }

    fn key(length: Length, start: i64) -> WindowKey {
        WindowKey { meter: 7, length, start }
    }

    fn events(additions: &mut Additions, stored: &[(WindowKey, Vec<u8>)]) -> Vec<(WindowKey, u64)> {
        let count = |content: &[u8]| {
            let mut window = Window::default();
            window.add_encoded(content).unwrap();
            window.groups().map(|(_, figure)| figure.shown(Aggregation::Count).events).sum()
        };
        let mut keys = additions.keys();
        keys.extend(stored.iter().map(|(key, _)| *key));
        keys.sort_unstable();
        keys.dedup();
        let contents = additions.take_with(&keys, stored).unwrap();
        contents.into_iter().map(|(key, content)| (key, count(&content))).collect()
    }

    #[test]
    fn minutes_are_added_to_longer_windows_also_before_1970() {
        let mut additions = additions(&[-1, 0, 14, 15, 59, 59, 60]);
        let new = additions.bound(&HashSet::new(), |_| 100).unwrap();
        assert_eq!(new, BTreeMap::from([(7, 6)]));
        additions.add_longer().unwrap();
        let expected = [
            (Length::Minute, -1, 1),
            (Length::Minute, 0, 1),
            (Length::Minute, 14, 1),
            (Length::Minute, 15, 1),
            (Length::Minute, 59, 2),
            (Length::Minute, 60, 1),
            (Length::Quarter, -15, 1),
            (Length::Quarter, 0, 2),
            (Length::Quarter, 15, 1),
            (Length::Quarter, 45, 2),
            (Length::Quarter, 60, 1),
            (Length::Hour, -60, 1),
            (Length::Hour, 0, 5),
            (Length::Hour, 60, 1),
        ];
        let expected = expected.map(|(length, start, events)| (key(length, start), events));
        assert_eq!(events(&mut additions, &[]), expected);
        assert!(additions.keys().is_empty());
    }

    #[test]
    fn what_needs_too_many_windows_is_counted_without_a_time() {
        let mut additions = additions(&[1, 2, 3, 3]);
        let new = additions.bound(&HashSet::from([key(Length::Minute, 3)]), |_| 1).unwrap();
        assert_eq!(new, BTreeMap::from([(7, 1)]));
        additions.add_longer().unwrap();
        let stored = [(key(Length::Beyond, 0), additions_of_one())];
        let expected = [
            (Length::Beyond, 0, 2),
            (Length::Minute, 1, 1),
            (Length::Minute, 3, 2),
            (Length::Quarter, 0, 3),
            (Length::Hour, 0, 3),
        ];
        let expected = expected.map(|(length, start, events)| (key(length, start), events));
        assert_eq!(events(&mut additions, &stored), expected);
    }

    fn additions_of_one() -> Vec<u8> {
        additions(&[9]).take_with(&[key(Length::Minute, 9)], &[]).unwrap().remove(0).1
    }

    #[test]
    fn what_a_meter_has_counted_that_is_gone_is_left_out() {
        let mut additions = Additions::default();
        additions.add_batch(&rows(&[1])[0], &HashSet::from([8])).unwrap();
        assert!(additions.keys().is_empty());
        assert_eq!(Additions::default().add_batch(&[1, 9], &HashSet::new()), Err(Damaged));
        assert_eq!(Additions::default().add_batch(&[], &HashSet::new()), Err(Damaged));
    }
}
