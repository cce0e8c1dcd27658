//! What one stream remembers of commits, and of a replay: the hashes `marks` and `replay` and the list `window` of
//! Redis.

use std::collections::{BTreeMap, VecDeque};

use sluice_log::replay::{CommitMark, Marks, StreamReplay};

/// The place of an entry within its stream.
pub type Id = (u64, u64);

/// About so many samples are in a window.
const SAMPLES: u64 = 64;

/// What a stream remembers beside its entries.
#[derive(Default)]
pub struct Memory {
    /// The number of each worker's last commit whose entries were acknowledged, and when, in seconds.
    pub marks: BTreeMap<String, (u64, u64)>,
    /// The replay that has not ended.
    pub replay: Option<Replay>,
    /// The times at which the first entry that was not acknowledged was noted, and this entry.
    samples: VecDeque<(u64, Id)>,
}

/// The replay of a stream.
#[derive(Clone)]
pub struct Replay {
    /// When it was begun, which identifies it.
    pub id: u64,
    /// The last entry of it.
    pub until: Id,
    /// The last entry that is stored again.
    pub reached: Id,
    /// The number of the commit that stored it.
    pub number: u64,
    /// The time of the store's last commit.
    pub survived: Option<u64>,
    /// Since when everything that was acknowledged is there.
    pub covered: Option<u64>,
    /// The marks that are reached again at its end.
    pub marks: Marks,
}

impl Memory {
    /// Returns whether this commit or a newer one of its worker was noted: its acknowledgement arrives again, or late.
    pub fn has_noted(&self, mark: &CommitMark) -> bool {
        self.marks.get(&mark.worker).is_some_and(|(noted, _)| mark.number <= *noted)
    }

    /// Notes the commit of a worker.
    pub fn note(&mut self, mark: &CommitMark, now: u64) {
        self.marks.insert(mark.worker.clone(), (mark.number, now / 1000));
    }

    /// Returns since when everything that was acknowledged is there.
    pub fn covered_since(&self) -> Option<u64> {
        self.samples.front().map(|(time, _)| *time)
    }

    /// Begins a replay, unless one is pending. Returns whether it was begun.
    pub fn begin(&mut self, until: Id, marks: &Marks, survived: Option<u64>, now: u64) -> bool {
        if self.replay.is_some() {
            return false;
        }
        let covered = self.covered_since();
        let marks = marks.clone();
        self.replay = Some(Replay { id: now, until, reached: (0, 0), number: 0, survived, covered, marks });
        true
    }

    /// Saves how far a replay is stored, if it is still this one.
    pub fn save(&mut self, part: &StreamReplay) {
        if let Some(replay) = self.replay.as_mut().filter(|replay| replay.id == part.id) {
            replay.reached = (part.reached.millis, part.reached.sequence);
            replay.number = part.number;
        }
    }

    /// Ends a replay, if it is still this one: everything stays for a whole window from now on.
    pub fn end(&mut self, id: u64) {
        if self.replay.take_if(|replay| replay.id == id).is_some() {
            let since = self.covered_since();
            self.samples = since.map(|since| (since, (0, 0))).into_iter().collect();
        }
    }

    /// Forgets the marks of these workers, if they acknowledged nothing for so many seconds.
    pub fn forget(&mut self, workers: &[String], age: u64, now: u64) {
        if self.replay.is_none() {
            self.marks.retain(|worker, (_, at)| !workers.contains(worker) || (now / 1000).saturating_sub(*at) <= age);
        }
    }

    /// Takes a sample of the first entry that must stay, and returns up to which one (without it) entries are removed:
    /// what was acknowledged before the window.
    pub fn sample(&mut self, now: u64, window: u64, bound: Id) -> Option<Id> {
        let last = self.samples.back().map(|(time, _)| *time);
        if last.is_some_and(|last| last > now) {
            self.samples.clear();
        }
        if last.is_none_or(|last| last > now || now - last >= window / SAMPLES) {
            self.samples.push_back((now, bound));
        }
        let is_over = |sample: Option<&(u64, Id)>| sample.is_some_and(|(time, _)| *time <= now.saturating_sub(window));
        while is_over(self.samples.get(1)) {
            self.samples.pop_front();
        }
        let oldest = self.samples.front();
        oldest.filter(|_| is_over(oldest)).map(|(_, id)| (*id).min(bound))
    }

    /// Removes the samples before the entry up to which entries were removed.
    pub fn forget_samples(&mut self, now: u64, removed_to: Id, bound: Id) {
        while self.samples.front().is_some_and(|(_, id)| *id < removed_to) {
            self.samples.pop_front();
        }
        if self.samples.is_empty() {
            self.samples.push_back((now, bound));
        }
    }
}
