//! Compares every event that was sent with the stored events.

use std::collections::HashMap;
use std::fmt;

use crate::load::{Sent, event};
use crate::{Snapshot, System};

/// The results of a fault test, printed at its end.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// The test.
    pub name: String,
    /// Events sent, each request once.
    pub sent: u64,
    /// Events in requests answered 202.
    pub accepted: u64,
    /// Attempts beyond the first of a request.
    pub repeats: u64,
    /// The numbers of the database at the end.
    pub end: Snapshot,
    /// The number of faults that happened with work in flight.
    pub faults: u64,
    /// Entries (or events, where there are no entries) in flight at the faults.
    pub pending: u64,
    /// Entries claimed from another consumer.
    pub claimed: u64,
    /// Entries that a consumer found pending for itself after its restart.
    pub recovered: u64,
    /// Receipts by which entries were recognised as committed.
    pub skipped: u64,
    /// Snapshots in which all counts were consistent.
    pub snapshots: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n── {}", self.name)?;
        writeln!(
            f,
            "   sent {} · accepted {} · received {} · unique {} · duplicates {} · dead-lettered {} · rows {}",
            self.sent,
            self.accepted,
            self.end.received,
            self.end.unique,
            self.end.duplicates,
            self.end.dead_lettered,
            self.end.rows,
        )?;
        write!(
            f,
            "   faults {} · in flight then {} · requests repeated {} · claimed {} · recovered {} · skipped by receipt {} \
             · snapshots checked {}",
            self.faults, self.pending, self.repeats, self.claimed, self.recovered, self.skipped, self.snapshots,
        )
    }
}

/// Waits until all accepted events are stored, and compares every count, every row and every payload. Returns the
/// counts.
pub async fn final_comparison(system: &System, sent: &Sent) -> Snapshot {
    let end = system.wait_until_stored(sent.accepted).await;
    let numbers = (end.received as u64, end.unique as u64, end.duplicates as u64, end.conflicts);
    let expected = (sent.sent, sent.distinct, sent.sent - sent.distinct, 0);
    assert_eq!(numbers, expected, "(received, unique, duplicates, conflicts) in the database");
    assert_eq!(end.rows as u64, sent.distinct, "rows");

    let stats = system.client.get_json("/stats").await;
    let told = ["received", "unique_processed", "duplicate_dropped", "conflicts"].map(|name| stats[name].as_u64());
    assert_eq!(told, [sent.sent, sent.distinct, sent.sent - sent.distinct, 0].map(Some), "/stats: {stats}");

    compare_rows(system, sent.distinct).await;
    end
}

/// Checks that the rows are exactly the events below `distinct`, each with the payload that was sent.
async fn compare_rows(system: &System, distinct: u64) {
    let rows = system.reader().await.rows().await.expect("the rows");
    let mut missing: HashMap<(String, String), String> = (0..distinct)
        .map(|n| {
            let (topic, id, payload) = event(n);
            ((topic, id), payload)
        })
        .collect();
    for (topic, id, payload) in rows {
        let sent = missing.remove(&(topic.clone(), id.clone()));
        assert_eq!(
            sent.as_deref(),
            Some(payload.as_str()),
            "{topic}/{id} was not sent, or is stored twice, or changed"
        );
    }
    let some: Vec<_> = missing.keys().take(5).collect();
    assert!(missing.is_empty(), "{} events are not stored, among them {some:?}", missing.len());
}
