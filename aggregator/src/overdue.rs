//! Looks at intervals at what maintenance should have done by now and has not, and at the last audit that was noted: for the
//! metrics, and in words for `/overview`. Maintenance itself cannot tell it while it fails or waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_store::inspect::Inspect;
use sluice_store::{DuePartition, Overdue, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::pause;

/// As often as Prometheus usually scrapes. It costs a few queries of tables with few rows.
const EVERY: Duration = Duration::from_secs(15);
/// From when on it is said in words, as by the alerts: a dump may read a table for as long.
const RETENTION_BEHIND: Duration = Duration::from_secs(2 * 3_600);
/// Closing is tried every few seconds, and waits for no batch longer than for a few more.
const NOT_CLOSED: Duration = Duration::from_secs(15 * 60);
/// The filter of a partition that an older version has filled takes minutes to build.
const WITHOUT_FILTER: Duration = Duration::from_secs(3_600);

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct OverdueWatch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the store said; `None` before it was asked, and while it does not answer.
    last: Option<Overdue>,
    /// The open partition that should have been closed, and since when this is known.
    due: Option<(i32, Instant)>,
    /// Since when partitions have been without a filter.
    without_filter: Option<Instant>,
}

impl OverdueWatch {
    /// Takes what the store said, or that it did not answer. Returns for how long the open partition should have been closed, if
    /// there are partitions.
    fn note(&self, seen: Option<Overdue>) -> Option<Duration> {
        let (now, mut state) = (Instant::now(), self.state());
        state.last = seen;
        // While nothing is known, it goes on being as it was.
        let Overdue { partition, figures, .. } = seen?;
        let number = partition.map(|due| due.number);
        let since = state.due.filter(|(known, _)| Some(*known) == number).map_or(now, |(_, since)| since);
        state.due = number.map(|number| (number, since));
        let lacks_filter = figures.is_some_and(|figures| figures.without_filter > 0);
        state.without_filter = lacks_filter.then(|| state.without_filter.unwrap_or(now));
        figures.map(|_| state.not_closed_for(partition))
    }

    /// Says what has been overdue for so long that somebody should look at it.
    pub fn notes(&self) -> Vec<String> {
        let state = self.state();
        let Some(Overdue { events, tables, partition, figures }) = state.last else { return Vec::new() };
        let mut notes = Vec::new();
        if let Some(time) = events.filter(|time| *time > RETENTION_BEHIND) {
            notes.push(format!(
                "the retention is behind: events are still there that should have been removed {} ago",
                in_words(time)
            ));
        }
        if let Some(time) = tables.filter(|time| *time > RETENTION_BEHIND) {
            notes.push(format!(
                "the retention is behind: a table of removed events still takes up the disk, and should have been dropped {} \
                 ago. A dump or another long transaction may be reading it",
                in_words(time)
            ));
        }
        let time = state.not_closed_for(partition);
        if time > NOT_CLOSED {
            notes.push(format!(
                "a partition of events should have been closed {} ago and is still open",
                in_words(time)
            ));
        }
        let without = figures.map_or(0, |figures| figures.without_filter);
        if let Some(time) = state.without_filter.map(|since| since.elapsed()).filter(|time| *time > WITHOUT_FILTER) {
            notes.push(format!(
                "{without} closed partitions of events have had no filter for {}: every key is looked up in them",
                in_words(time)
            ));
        }
        notes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns for how long the open partition should have been closed: for as long as it has been too old, or as this process
    /// has known that it is due.
    fn not_closed_for(&self, partition: Option<DuePartition>) -> Duration {
        let Some(DuePartition { too_old_for, .. }) = partition else { return Duration::ZERO };
        self.due.map_or(Duration::ZERO, |(_, since)| since.elapsed()).max(too_old_for)
    }
}

/// Returns a time as a person says it.
fn in_words(time: Duration) -> String {
    match time.as_secs() / 60 {
        minutes @ 0..120 => format!("{minutes} minutes"),
        minutes @ 120..2_880 => format!("{} hours", minutes / 60),
        minutes => format!("{} days", minutes / 1_440),
    }
}

/// Looks until `stop`; `retention` is how long events are retained.
pub(crate) async fn watch(
    store: Arc<dyn Inspect>,
    watch: Arc<OverdueWatch>,
    retention: Option<Duration>,
    stop: CancellationToken,
) {
    while pause(EVERY, &stop).await {
        if let Err(error) = look(&*store, &watch, retention).await {
            // Whatever needs the store says the same.
            tracing::debug!(%error, "it is not known what maintenance should have done by now");
        }
    }
}

async fn look(store: &dyn Inspect, watch: &OverdueWatch, retention: Option<Duration>) -> Result<(), StoreError> {
    let seen = store.overdue(retention).await;
    let before = watch.state().last;
    let not_closed_for = watch.note(seen.as_ref().ok().copied());
    show(seen.as_ref().ok().copied(), before, not_closed_for);
    seen?;
    // One that a newer version has noted is as good as none. While the store does not answer, the last one stays the last.
    let audit = store.last_audit().await?;
    metrics::last_audit(audit.and_then(|audit| serde_json::from_str(&audit).ok()));
    Ok(())
}

/// Shows what was seen in the metrics. What was seen before, and is not known any more, is shown so.
fn show(seen: Option<Overdue>, before: Option<Overdue>, not_closed_for: Option<Duration>) {
    let Overdue { events, tables, figures, .. } = seen.or(before).unwrap_or_default();
    for (what, time) in [("events", events), ("tables", tables)] {
        if let Some(time) = time {
            metrics::retention_overdue(what, seen.map(|_| time));
        }
    }
    if figures.is_some() {
        metrics::partition_close_overdue(not_closed_for);
    }
    metrics::partitions(figures.filter(|_| seen.is_some()));
}

#[cfg(test)]
mod tests {
    use sluice_store::PartitionFigures;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn seen(number: Option<i32>, too_old_for: Duration, without_filter: u64) -> Option<Overdue> {
        let partition = number.map(|number| DuePartition { number, too_old_for });
        let figures = Some(PartitionFigures { without_filter, ..PartitionFigures::default() });
        Some(Overdue { partition, figures, ..Overdue::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_overdue_since_it_was_first_seen_so_or_for_as_long_as_it_has_been_too_old() {
        let watch = OverdueWatch::default();
        let note = |number| watch.note(seen(number, Duration::ZERO, 0));
        assert_eq!(watch.note(Some(Overdue::default())), None, "there are no partitions");
        assert_eq!((note(None), note(Some(1))), (Some(Duration::ZERO), Some(Duration::ZERO)));
        tokio::time::advance(HOUR).await;
        assert_eq!(watch.note(None), None, "the store does not answer");
        assert_eq!(watch.notes(), [""; 0], "nothing is known");
        assert_eq!(note(Some(1)), Some(HOUR), "it has not been closed all the time");
        assert_eq!(watch.notes(), ["a partition of events should have been closed 60 minutes ago and is still open"]);
        assert_eq!(note(Some(2)), Some(Duration::ZERO), "the next one is full already");
        assert_eq!(watch.note(seen(Some(2), HOUR * 30, 0)), Some(HOUR * 30), "it has been too old for longer");
        assert!(watch.notes()[0].contains("30 hours ago"), "{:?}", watch.notes());
        assert_eq!(note(None), Some(Duration::ZERO));
        assert_eq!(watch.notes(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn partitions_without_a_filter_are_told_after_an_hour() {
        let watch = OverdueWatch::default();
        watch.note(seen(None, Duration::ZERO, 3));
        tokio::time::advance(HOUR + HOUR / 2).await;
        assert_eq!(
            watch.notes(),
            ["3 closed partitions of events have had no filter for 90 minutes: every key is looked up in them"]
        );
        watch.note(seen(None, Duration::ZERO, 0));
        watch.note(seen(None, Duration::ZERO, 1));
        assert_eq!(watch.notes(), [""; 0], "there was none for a moment");
    }

    #[test]
    fn a_retention_that_is_behind_is_told_for_events_and_for_tables() {
        let watch = OverdueWatch::default();
        watch.note(Some(Overdue { events: Some(HOUR), tables: Some(HOUR), ..Overdue::default() }));
        assert_eq!(watch.notes(), [""; 0], "a dump may take as long");
        watch.note(Some(Overdue { events: Some(HOUR * 3), tables: Some(HOUR * 50), ..Overdue::default() }));
        let notes = watch.notes();
        assert!(
            notes.len() == 2 && notes.iter().all(|note| note.starts_with("the retention is behind: ")),
            "{notes:?}"
        );
        assert!(notes[0].contains("removed 3 hours ago") && notes[1].contains("dropped 2 days ago"), "{notes:?}");
    }
}
