//! Finds when rows become visible: polls the newest rows of the markers' topic through the index, on a
//! connection and a thread of its own: a thread sleeps more exactly than a task, whose timer has a resolution of a
//! millisecond.
//!
//! The table of the open partition is read instead of the view of all events, because that costs the server less. The
//! times at which transactions were committed (`track_commit_timestamp`) would need no polling, but PostgreSQL takes
//! them before the transaction's log is flushed, which is a large part of what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::load::closed::on_one_thread;
use crate::load::events::MARKERS;
use crate::load::open::Schedule;
use crate::system::servers;

/// The time from the end of one query to the next. Polling more often would take more CPU from what is measured.
const POLL_INTERVAL: Duration = Duration::from_micros(500);
/// How long no marker may become visible, while some are missing, before the measurement fails.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The rows that a query reads beyond those among which some are missing. Few, since reading costs the server
/// CPU time, but more than the markers of one transaction.
const ROWS: usize = 32;

/// When the markers became visible.
#[derive(Debug)]
pub struct Visible {
    /// The time at which each marker was first found, in the order of their numbers.
    pub found_at: Vec<Instant>,
    /// For each query that found a marker, the time from the beginning of the query before, or from the time at which the
    /// marker's request was sent, to the end of this one. So long after it became visible a row was found at most.
    pub late_by: Vec<Duration>,
}

/// Polls until every marker has become visible.
#[derive(Debug)]
pub struct Poller {
    task: JoinHandle<anyhow::Result<Visible>>,
    /// The number of markers that are visible so far.
    visible: watch::Receiver<usize>,
}

impl Poller {
    /// Starts polling `table` of the server at `url` for the markers with the numbers below `markers`, each from the time
    /// on at which its request is sent.
    pub fn start(url: String, table: &str, markers: usize, schedule: Schedule) -> Self {
        // By the index on topics, which begins with a hash.
        let newest = format!(
            "SELECT event_id FROM {table} WHERE hashtext(topic) = hashtext('{MARKERS}') AND texteq(topic, '{MARKERS}') \
             ORDER BY seq DESC LIMIT $1"
        );
        let (progress, visible) = watch::channel(0);
        let search = Search::of(markers);
        let polling = move || async move {
            let mut connection = servers::connect(&url).await?;
            // The server expects so few rows of the topic that it would read and sort all of them for each query.
            connection.execute("SET enable_sort = off; SET enable_bitmapscan = off; SET jit = off").await?;
            poll(connection, newest, search, schedule, progress).await
        };
        Self { task: tokio::spawn(on_one_thread(polling)), visible }
    }

    /// Waits for the last marker.
    ///
    /// # Errors
    /// If a query fails, or no further marker becomes visible for 30 seconds.
    pub async fn finish(self) -> anyhow::Result<Visible> {
        let outcome = self.task.await.context("the task that polls for markers failed")?;
        outcome.with_context(|| format!("{} markers became visible", *self.visible.borrow()))
    }
}

/// Which markers are found.
struct Search {
    found_at: Vec<Option<Instant>>,
    missing: usize,
    /// All markers below are found.
    complete: usize,
    /// No marker from here on is found.
    beyond: usize,
}

impl Search {
    fn of(markers: usize) -> Self {
        Self { found_at: vec![None; markers], missing: markers, complete: 0, beyond: 0 }
    }

    /// Notes the markers among the rows of a query that ended `now`. Returns how many were not found before.
    fn note(&mut self, ids: &[String], now: Instant) -> anyhow::Result<usize> {
        let mut new = 0;
        for id in ids {
            let number: usize = id.trim_start_matches("evt-").parse().with_context(|| format!("the marker {id}"))?;
            let slot = self.found_at.get_mut(number).with_context(|| format!("the marker {id} was not sent"))?;
            if slot.is_none() {
                *slot = Some(now);
                new += 1;
                self.beyond = self.beyond.max(number + 1);
            }
        }
        while self.found_at.get(self.complete).is_some_and(Option::is_some) {
            self.complete += 1;
        }
        self.missing -= new;
        Ok(new)
    }
}

async fn poll(
    mut connection: PgConnection,
    newest: String,
    mut search: Search,
    schedule: Schedule,
    progress: watch::Sender<usize>,
) -> anyhow::Result<Visible> {
    let markers = search.missing;
    let (mut limit, mut late_by) = (ROWS, Vec::new());
    let (mut last_progress, mut last_began) = (Instant::now(), Instant::now());
    while search.missing > 0 {
        // A marker that was not sent cannot be visible.
        let due = schedule.at(search.complete);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        let query = sqlx::query_scalar(AssertSqlSafe(newest.clone())).bind(limit as i64);
        let rows: Vec<String> = query.fetch_all(&mut connection).await.context("reading the markers")?;
        let now = Instant::now();
        let new = search.note(&rows, now)?;
        progress.send_replace(markers - search.missing);
        if new > 0 {
            last_progress = now;
            late_by.push(now - last_began.max(due));
        }
        last_began = began;
        let stalled = last_progress.elapsed() >= STALL_TIMEOUT;
        ensure!(!stalled, "{} of {markers} markers have not become visible", search.missing);
        // A slower transaction may commit older markers later, so the rows from `complete` on are read again.
        // If all rows of this query were new, there may be more new ones before them.
        limit = if new == limit { limit * 2 } else { ROWS + search.beyond.saturating_sub(search.complete) };
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(Visible { found_at: search.found_at.into_iter().flatten().collect(), late_by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::servers::Servers;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_that_becomes_visible_after_many_newer_ones_is_found_then() {
        let servers = Servers::start().await.unwrap();
        let mut connection = servers.postgres().await.unwrap();
        connection.execute("CREATE TABLE marked (seq bigint, topic text, event_id text)").await.unwrap();
        let schedule = Schedule { start: Instant::now(), interval: Duration::ZERO };
        let mut poller = Poller::start(servers.postgres.url(), "marked", 1000, schedule);
        let insert = |which: &str| {
            let rows = format!("SELECT n, '{MARKERS}', 'evt-' || n FROM generate_series(0, 999) n WHERE {which}");
            AssertSqlSafe(format!("INSERT INTO marked {rows}"))
        };
        connection.execute(insert("n >= 20")).await.unwrap();
        tokio::time::timeout(STALL_TIMEOUT, poller.visible.wait_for(|visible| *visible == 980)).await.unwrap().unwrap();
        let before = Instant::now();
        connection.execute(insert("n < 20")).await.unwrap();
        let found_at = poller.finish().await.unwrap().found_at;
        assert_eq!(found_at.len(), 1000);
        assert!(found_at[..20].iter().all(|at| *at > before) && found_at[20..].iter().all(|at| *at < before));
    }
}
