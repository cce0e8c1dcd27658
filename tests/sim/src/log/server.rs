//! The state of the model log and its commands, each of which is one atomic step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice_event::{BodyHash, EntryId, IdempotencyKeyHash, entry};
use sluice_log::replay::{CommitMark, Loss, Marks};
use sluice_log::{Append, Appended, Backlog, Claimed, ConsumerInfo, Delivered, Position};

use super::memory::{Id, Memory};

/// How long the record of an `Idempotency-Key` is kept, in milliseconds.
pub const KEY_TTL_MILLIS: u64 = 3_600_000;

/// All streams, and what the simulation needs to know about them.
#[derive(Default)]
pub struct LogServer {
    streams: Vec<Stream>,
    keys: BTreeMap<IdempotencyKeyHash, (BodyHash, u64)>,
    /// Every body that was ever appended, trimmed ones too.
    archive: Vec<Bytes>,
    /// The last loss that was found, and until when it is shown.
    pub loss: Option<(Loss, u64)>,
    /// Who has the right to replay, and until when.
    pub replayer: Option<(Arc<str>, u64)>,
    /// All losses whose replays have ended.
    pub losses: Vec<Loss>,
}

#[derive(Default)]
struct Stream {
    entries: BTreeMap<Id, (Bytes, u64)>,
    last: Id,
    appended: u64,
    acknowledged: u64,
    group: Option<Group>,
    memory: Memory,
}

#[derive(Default)]
struct Group {
    delivered: Id,
    pending: BTreeMap<Id, Pending>,
    /// When each consumer last asked.
    consumers: BTreeMap<Arc<str>, u64>,
}

struct Pending {
    consumer: Arc<str>,
    since: u64,
    times: u64,
}

/// Who asks, and when by the log's clock.
#[derive(Clone)]
pub struct Asker {
    /// The consumer's name.
    pub consumer: Arc<str>,
    /// The time by the log's clock, in milliseconds.
    pub now: u64,
}

impl LogServer {
    /// Creates a log of so many streams.
    pub fn new(streams: u16) -> Self {
        Self { streams: (0..streams).map(|_| Stream::default()).collect(), ..Self::default() }
    }

    /// Returns every body that was ever appended.
    pub fn archive(&self) -> &[Bytes] {
        &self.archive
    }

    /// Appends an entry, and compares and records its keys in the same step.
    pub fn append(&mut self, now: u64, append: &Append) -> Appended {
        let reuses = |request: &sluice_log::KeyedRequest| {
            self.keys.get(&request.key).is_some_and(|(body, until)| *until > now && *body != request.body_hash)
        };
        let reused: Vec<_> =
            append.keyed.iter().enumerate().filter(|(_, request)| reuses(request)).map(|(index, _)| index).collect();
        if !reused.is_empty() {
            return Appended::KeyReused(reused);
        }
        for request in &append.keyed {
            self.keys.insert(request.key, (request.body_hash, now + KEY_TTL_MILLIS));
        }
        let stream = &mut self.streams[usize::from(append.stream)];
        // Ids only increase, also when the clock goes back.
        stream.last = if now > stream.last.0 { (now, 0) } else { (stream.last.0, stream.last.1 + 1) };
        let body = Bytes::from(append.entry.body.clone());
        self.archive.push(body.clone());
        stream.entries.insert(stream.last, (body, append.entry.events));
        stream.appended += append.entry.events;
        Appended::Stored { backlog: Some(stream.appended.saturating_sub(stream.acknowledged)) }
    }

    /// Returns the position of the last entry of a stream.
    pub fn last(&self, stream: u16) -> Position {
        position(usize::from(stream), self.streams[usize::from(stream)].last)
    }

    /// Delivers entries that were never delivered to anyone.
    pub fn read_new(&mut self, asker: &Asker, entries: usize) -> Vec<Delivered> {
        let mut read = Vec::new();
        let each = entries.div_ceil(self.streams.len()).max(1);
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let (entries, group) = stream.group();
            group.consumers.insert(asker.consumer.clone(), asker.now);
            let after = (std::ops::Bound::Excluded(group.delivered), std::ops::Bound::Unbounded);
            for (&id, entry) in entries.range(after).take(each) {
                group.delivered = id;
                group.deliver(id, asker, 1);
                read.push(delivered(number, id, entry));
            }
        }
        read
    }

    /// Delivers the entries that are pending for the asker's name, behind `after`.
    pub fn read_own_pending(&mut self, asker: &Asker, after: Option<Position>, most: usize) -> Vec<Delivered> {
        let mut read = Vec::new();
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let (entries, group) = stream.group();
            group.consumers.insert(asker.consumer.clone(), asker.now);
            for (&id, pending) in group.pending.iter_mut().filter(|(_, pending)| pending.consumer == asker.consumer) {
                if read.len() == most || after.is_some_and(|after| position(number, id) <= after) {
                    continue;
                }
                (pending.since, pending.times) = (asker.now, pending.times + 1);
                read.extend(entries.get(&id).map(|entry| delivered(number, id, entry)));
            }
        }
        read
    }

    /// Takes over entries that were pending for `idle` ms, from behind the cursor on, which is moved.
    pub fn claim(&mut self, asker: &Asker, cursor: &mut Option<Position>, idle: u64, most: usize) -> Claimed {
        let mut claimed = Claimed::default();
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let (entries, group) = stream.group();
            group.consumers.insert(asker.consumer.clone(), asker.now);
            let mut due = Vec::new();
            for (&id, pending) in &group.pending {
                if cursor.is_none_or(|cursor| position(number, id) > cursor)
                    && asker.now.saturating_sub(pending.since) >= idle
                {
                    due.push((id, pending.times + 1));
                }
            }
            for (id, times) in due {
                if claimed.entries.len() == most {
                    *cursor = claimed.entries.last().map(|entry| entry.position);
                    return claimed;
                }
                group.deliver(id, asker, times);
                match entries.get(&id) {
                    Some(entry) => claimed.entries.push(delivered(number, id, entry)),
                    None => claimed.lost.push(position(number, id)),
                }
            }
        }
        (*cursor, claimed.complete) = (None, true);
        claimed
    }

    /// Resets the idle time of entries that are pending for the asker's name.
    pub fn extend_claim(&mut self, asker: &Asker, held: &[Position]) {
        for held in held {
            let pending =
                self.streams[usize::from(held.stream)].group().1.pending.get_mut(&(held.millis, held.sequence));
            if let Some(pending) = pending.filter(|pending| pending.consumer == asker.consumer) {
                pending.since = asker.now;
            }
        }
    }

    /// Returns how often each entry was delivered; 0 when it is not pending.
    pub fn deliveries(&mut self, held: &[Position]) -> Vec<u64> {
        let times = |held: &Position| {
            let pending = &self.streams[usize::from(held.stream)].group().1.pending;
            pending.get(&(held.millis, held.sequence)).map_or(0, |pending| pending.times)
        };
        held.iter().map(times).collect()
    }

    /// Acknowledges entries of one stream, whoever they are pending for, and notes the commit that stored them. Returns
    /// how many were pending.
    pub fn acknowledge(&mut self, now: u64, stream: u16, done: &[(Position, u64)], mark: Option<&CommitMark>) -> u64 {
        let mut acknowledged = 0;
        let stream = &mut self.streams[usize::from(stream)];
        if mark.is_some_and(|mark| stream.memory.has_noted(mark)) {
            return 0;
        }
        for (done, events) in done {
            let group = stream.group.as_mut();
            if group.is_some_and(|group| group.pending.remove(&(done.millis, done.sequence)).is_some()) {
                stream.acknowledged += events;
                acknowledged += 1;
            }
        }
        if let Some(mark) = mark {
            stream.memory.note(mark, now);
        }
        acknowledged
    }

    /// Removes the entries of a stream that were acknowledged before the replay window, in ms, unless a replay is
    /// pending. Returns the ids of those that are in no stream any more, and the number of all that were removed.
    pub fn trim(&mut self, now: u64, stream: u16, window: u64) -> (Vec<EntryId>, u64) {
        let stream = &mut self.streams[usize::from(stream)];
        let Some(group) = stream.group.as_ref().filter(|_| stream.memory.replay.is_none()) else {
            return (Vec::new(), 0);
        };
        let undelivered = (group.delivered.0, group.delivered.1 + 1);
        let bound = group.pending.first_key_value().map_or(undelivered, |(&id, _)| id);
        let mut removed = BTreeMap::new();
        if let Some(to) = stream.memory.sample(now, window, bound) {
            let stays = stream.entries.split_off(&to);
            removed = std::mem::replace(&mut stream.entries, stays);
            stream.memory.forget_samples(now, if removed.is_empty() { (0, 0) } else { to }, bound);
        }
        let ids =
            removed.values().filter_map(|(body, _)| entry::peek_id(body)).filter(|id| self.has(*id) == Some(false));
        (ids.collect(), removed.len() as u64)
    }

    /// Returns whether a replay has not ended.
    pub fn is_replay_pending(&self) -> bool {
        self.streams.iter().any(|stream| stream.memory.replay.is_some())
    }

    /// Returns the marks of all streams together.
    pub fn marks(&self) -> Marks {
        let mut marks = Marks::new();
        for (worker, (number, _)) in self.streams.iter().flat_map(|stream| &stream.memory.marks) {
            let highest = marks.entry(worker.clone()).or_default();
            *highest = (*number).max(*highest);
        }
        marks
    }

    /// Returns what a stream remembers.
    pub fn memory(&mut self, stream: u16) -> &mut Memory {
        &mut self.streams[usize::from(stream)].memory
    }

    /// Returns the entry that was delivered last. Without a group everything will be delivered again.
    pub fn last_delivered(&self, stream: u16) -> Id {
        self.streams[usize::from(stream)].group.as_ref().map_or((0, 0), |group| group.delivered)
    }

    /// Returns entries again, from behind `after` up to `until`.
    pub fn read_again(&self, after: Position, until: Position, most: usize) -> Vec<Delivered> {
        let (after, until, number) = ((after.millis, after.sequence), (until.millis, until.sequence), after.stream);
        if after >= until {
            return Vec::new();
        }
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Included(until));
        let entries = self.streams[usize::from(number)].entries.range(range).take(most.max(1));
        entries.map(|(&id, entry)| delivered(usize::from(number), id, entry)).collect()
    }

    /// Returns the backlog.
    pub fn backlog(&mut self, now: u64) -> Backlog {
        let mut backlog = Backlog { events: Some(0), lag: Some(0), ..Backlog::default() };
        for stream in &mut self.streams {
            let oldest = stream.entries.first_key_value().map(|(id, _)| now.saturating_sub(id.0));
            backlog.oldest = backlog.oldest.max(oldest.map(Duration::from_millis));
            let events = stream.appended.saturating_sub(stream.acknowledged);
            backlog.events = backlog.events.map(|sum| sum + events);
            let (entries, group) = stream.group();
            let after = (std::ops::Bound::Excluded(group.delivered), std::ops::Bound::Unbounded);
            backlog.lag = backlog.lag.map(|sum| sum + entries.range(after).count() as u64);
            backlog.pending += group.pending.len() as u64;
        }
        backlog
    }

    /// Returns the group's consumers.
    pub fn consumers(&mut self, now: u64) -> Vec<ConsumerInfo> {
        let mut consumers: BTreeMap<Arc<str>, ConsumerInfo> = BTreeMap::new();
        for stream in &mut self.streams {
            let (_, group) = stream.group();
            for (name, &asked) in &group.consumers {
                let idle = Duration::from_millis(now.saturating_sub(asked));
                let new = || ConsumerInfo { name: name.to_string(), pending: 0, idle };
                let consumer = consumers.entry(name.clone()).or_insert_with(new);
                consumer.pending += group.pending.values().filter(|pending| pending.consumer == *name).count() as u64;
                consumer.idle = consumer.idle.min(idle);
            }
        }
        consumers.into_values().collect()
    }

    /// Removes consumers that `departed` selects and that have nothing pending in any stream.
    pub fn remove_consumers(&mut self, now: u64, departed: impl Fn(&ConsumerInfo) -> bool) -> Vec<String> {
        let consumers = self.consumers(now);
        let gone: Vec<_> = consumers.into_iter().filter(|c| c.pending == 0 && departed(c)).map(|c| c.name).collect();
        for group in self.streams.iter_mut().filter_map(|stream| stream.group.as_mut()) {
            group.consumers.retain(|name, _| !gone.iter().any(|gone| **gone == **name));
        }
        gone
    }

    /// Destroys the consumer group. The next command creates it again, at the beginning of what is left.
    pub fn lose_group(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.group = None);
    }

    /// Makes every pending entry old enough to be claimed.
    pub fn age_pending(&mut self) {
        let groups = self.streams.iter_mut().filter_map(|stream| stream.group.as_mut());
        groups.flat_map(|group| group.pending.values_mut()).for_each(|pending| pending.since = 0);
    }

    /// Returns how many entries are pending or undelivered.
    pub fn unfinished(&mut self) -> u64 {
        let backlog = self.backlog(0);
        backlog.pending + backlog.lag.unwrap_or_default()
    }

    /// Returns whether the entry with this id is still in a stream; `None` if there never was one.
    pub fn has(&self, id: EntryId) -> Option<bool> {
        let has_id = |body: &Bytes| entry::peek_id(body) == Some(id);
        let mut bodies = self.streams.iter().flat_map(|stream| stream.entries.values());
        self.archive.iter().any(has_id).then(|| bodies.any(|(body, _)| has_id(body)))
    }
}

impl Stream {
    /// Returns the entries and the group, which is created where it is missing.
    fn group(&mut self) -> (&BTreeMap<Id, (Bytes, u64)>, &mut Group) {
        let Self { entries, appended, acknowledged, group, .. } = self;
        let group = group.get_or_insert_with(|| {
            // Everything in the stream will be delivered, so it is not acknowledged.
            let events = entries.values().map(|(_, events)| events).sum();
            *appended = (*appended).max(events);
            *acknowledged = *appended - events;
            Group::default()
        });
        (entries, group)
    }
}

impl Group {
    fn deliver(&mut self, id: Id, asker: &Asker, times: u64) {
        self.pending.insert(id, Pending { consumer: asker.consumer.clone(), since: asker.now, times });
    }
}

fn position(stream: usize, (millis, sequence): Id) -> Position {
    Position { stream: stream as u16, millis, sequence }
}

fn delivered(stream: usize, id: Id, (body, events): &(Bytes, u64)) -> Delivered {
    Delivered { position: position(stream, id), body: body.clone(), events: *events }
}
