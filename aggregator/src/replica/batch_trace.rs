//! The spans of a batch: for each traced request in it one of the reading of its entry, and one of the transaction that stores
//! it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_event::EntryId;
use sluice_log::Position;
use sluice_service::trace::{self, Member, Operation, SpanEvent, SpanKind, Tracing, Value, hex_of};
use sluice_store::commit::{Batch, Outcome, events_of};
use sluice_store::{CommitOptions, StoreError};

/// The largest number of failed attempts that are named.
const MAX_RETRIES: usize = 16;

/// A batch with a traced request.
pub(crate) struct BatchTrace {
    tracing: &'static Tracing,
    entries: Vec<TracedEntry>,
    /// When all of its entries had been read.
    started: SystemTime,
    retries: Vec<SpanEvent>,
}

struct TracedEntry {
    position: Position,
    id: EntryId,
    events: u64,
    requests: Vec<Member>,
}

impl BatchTrace {
    /// Returns the trace of a batch that is stored from now on; `None` if none of its requests is traced.
    pub(crate) fn begin(batch: &Batch<'_>) -> Option<Self> {
        let tracing = trace::active()?;
        let mut entries = Vec::new();
        for (position, entry) in &batch.entries {
            let traced = entry.requests.iter().filter_map(|request| request.trace);
            let requests: Vec<_> = traced.map(|parent| Member::of(parent, true)).collect();
            if !requests.is_empty() {
                let events = events_of(entry) as u64;
                entries.push(TracedEntry { position: *position, id: entry.id, events, requests });
            }
        }
        if entries.is_empty() {
            return None;
        }
        Some(Self { tracing, entries, started: SystemTime::now(), retries: Vec::new() })
    }

    /// Returns the id of the first trace, for log lines.
    pub(crate) fn id(&self) -> Option<String> {
        self.entries.first().and_then(|entry| entry.requests.first()).map(|member| hex_of(member.parent))
    }

    /// Notes an attempt to store the batch that failed.
    pub(crate) fn retry(&mut self, error: &StoreError) {
        if self.retries.len() < MAX_RETRIES {
            self.retries.push(SpanEvent { name: "retry", time: SystemTime::now(), error: error.to_string() });
        }
    }

    /// Records the spans of a batch that is stored.
    pub(crate) fn end(self, options: &CommitOptions, batch: &Batch<'_>, outcome: &Outcome) {
        let ended = SystemTime::now();
        for entry in &self.entries {
            self.reading(entry, options).record_in_each(self.tracing, &entry.requests);
        }
        let requests = self.entries.iter().flat_map(|entry| &entry.requests);
        let stored: Vec<_> = requests.map(Member::next).collect();
        let operation = Operation {
            name: "commit",
            kind: SpanKind::Client,
            started: self.started,
            ended,
            attributes: vec![
                ("db.system.name", Value::from(self.tracing.systems.store)),
                ("db.operation.name", "COMMIT".into()),
                ("sluice.batch.entries", (batch.entries.len() as u64).into()),
                ("sluice.batch.events", (batch.events() as u64).into()),
                ("sluice.batch.unique", outcome.counts.unique.into()),
                ("sluice.batch.duplicates", outcome.counts.duplicates.into()),
                ("sluice.batch.skipped", outcome.skipped.into()),
            ],
            events: self.retries,
            error: None,
        };
        operation.record_in_each(self.tracing, &stored);
    }

    /// Returns the operation of reading an entry: from the time at which the log had it, by the clock of the log, until it was
    /// read together with the others of the batch.
    fn reading(&self, entry: &TracedEntry, options: &CommitOptions) -> Operation {
        let systems = &self.tracing.systems;
        let appended = UNIX_EPOCH + Duration::from_millis(entry.position.millis);
        Operation {
            name: "read",
            kind: SpanKind::Consumer,
            // The clock of the log may be ahead of that of this machine.
            started: appended.min(self.started),
            ended: self.started,
            attributes: vec![
                ("messaging.system", Value::from(systems.log)),
                ("messaging.operation.name", "read".into()),
                ("messaging.operation.type", "process".into()),
                ("messaging.destination.name", systems.streams.clone().into()),
                ("messaging.destination.partition.id", entry.position.stream.to_string().into()),
                ("messaging.batch.message_count", entry.events.into()),
                ("messaging.client.id", options.shard.clone().into()),
                ("sluice.entry.id", entry.id.to_string().into()),
                ("sluice.position", entry.position.to_string().into()),
            ],
            events: Vec::new(),
            error: None,
        }
    }
}
