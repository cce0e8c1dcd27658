//! How often rows were removed, as far as this process knows. It is a part of the generation of the deduplication
//! cache: a key whose row was removed must not be taken for stored.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sluice_event::Timestamp;
use sqlx::PgConnection;

/// Records how many events were removed, and how far back duplicates are recognised from now on: all events that were
/// stored later are there.
pub(super) async fn note(connection: &mut PgConnection, events: i64, horizon: Timestamp) -> Result<(), sqlx::Error> {
    if events == 0 {
        return Ok(());
    }
    let note = sqlx::query(
        "INSERT INTO settings AS s (name, value) \
         VALUES ('dedup_horizon', $1::int8::text), ('removed_events', $2::int8::text) \
         ON CONFLICT (name) DO UPDATE SET value = CASE s.name \
             WHEN 'removed_events' THEN s.value::int8 + $2 ELSE greatest(s.value::int8, $1) END::text",
    );
    note.bind(horizon.as_micros()).bind(events).execute(connection).await.map(|_| ())
}

/// Counts the removals of rows that this process has noticed.
#[derive(Debug, Default)]
pub(super) struct Removals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of removed events that was read last.
    removed_events: i64,
    noticed: u64,
}

impl Removals {
    /// Takes the number of events that retention had removed when a transaction began, whichever replica removed them.
    /// Returns how many removals have been noticed. Any other number than the last one is a removal: a smaller one
    /// is that of a transaction that began earlier, or of a database that was restored.
    pub fn observe(&self, removed_events: i64) -> u64 {
        let mut state = self.state();
        if state.removed_events != removed_events {
            state.removed_events = removed_events;
            state.noticed += 1;
        }
        state.noticed
    }

    /// Counts the loss of all rows: the tables were missing.
    pub fn count_lost_tables(&self) {
        self.state().noticed += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bits of a generation that hold the number of removals: enough for a thousand a second for two years.
const REMOVAL_BITS: u32 = 36;

/// Returns the number that represents a pair of lost connections and noticed removals. Different pairs have different
/// numbers, which increase with each of the two: with their sum, a transaction that uses an older connection and began
/// after a removal would trust the keys of one that uses a newer connection and began before it.
pub(super) fn generation(lost_connections: u64, removals: u64) -> u64 {
    lost_connections << REMOVAL_BITS | removals.min((1 << REMOVAL_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::generation;

    #[test]
    fn each_pair_of_lost_connections_and_removals_is_a_generation_of_its_own() {
        assert_ne!(generation(5, 1), generation(6, 0));
        assert!(generation(5, 1) > generation(5, 0) && generation(6, 0) > generation(5, 0));
        assert!(generation(6, 0) > generation(5, u64::MAX));
    }
}
