//! Finds when rows become visible: polls the newest rows of the probes' topic through the index, on a
//! connection of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::load::events::PROBES;

/// The time from the end of one query to the next. A row is found at most this time and the duration of a
/// query after it became visible. Polling more often would take more CPU from what is measured.
const POLL_INTERVAL: Duration = Duration::from_millis(4);
/// How long no probe may become visible, while some are missing, before the measurement fails.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The rows that a query reads beyond those among which some are missing. Few, since reading costs the server
/// CPU time, but more than the probes of one transaction.
const ROWS: usize = 32;

/// Polls until every probe has become visible.
#[derive(Debug)]
pub struct Poller {
    task: JoinHandle<anyhow::Result<Vec<Instant>>>,
    /// The number of probes that are visible so far.
    visible: watch::Receiver<usize>,
}

impl Poller {
    /// Starts polling for the probes with the numbers below `probes`.
    pub fn start(connection: PgConnection, schema: &str, probes: usize) -> Self {
        let newest =
            format!("SELECT event_id FROM \"{schema}\".events WHERE topic = '{PROBES}' ORDER BY seq DESC LIMIT $1");
        let (progress, visible) = watch::channel(0);
        Self { task: tokio::spawn(poll(connection, newest, probes, progress)), visible }
    }

    /// Waits for the last probe. Returns the time at which each was first found, in the order of their numbers.
    ///
    /// # Errors
    /// If a query fails, or no further probe becomes visible for 30 seconds.
    pub async fn finish(self) -> anyhow::Result<Vec<Instant>> {
        let outcome = self.task.await.context("the task that polls for probes failed")?;
        outcome.with_context(|| format!("{} probes became visible", *self.visible.borrow()))
    }
}

async fn poll(
    mut connection: PgConnection,
    newest: String,
    probes: usize,
    progress: watch::Sender<usize>,
) -> anyhow::Result<Vec<Instant>> {
    let mut found_at: Vec<Option<Instant>> = vec![None; probes];
    let (mut missing, mut last_progress, mut limit) = (probes, Instant::now(), ROWS);
    // All probes below `complete` are found, none from `beyond` on.
    let (mut complete, mut beyond) = (0_usize, 0_usize);
    while missing > 0 {
        let query = sqlx::query_scalar(AssertSqlSafe(newest.clone())).bind(limit as i64);
        let rows: Vec<String> = query.fetch_all(&mut connection).await.context("reading the probes")?;
        let now = Instant::now();
        let mut new = 0;
        for id in &rows {
            let number: usize = id.trim_start_matches("evt-").parse().with_context(|| format!("the probe {id}"))?;
            let slot = found_at.get_mut(number).with_context(|| format!("the probe {id} was not sent"))?;
            if slot.is_none() {
                *slot = Some(now);
                new += 1;
                beyond = beyond.max(number + 1);
            }
        }
        while found_at.get(complete).is_some_and(Option::is_some) {
            complete += 1;
        }
        missing -= new;
        progress.send_replace(probes - missing);
        if new > 0 {
            last_progress = now;
        }
        ensure!(last_progress.elapsed() < STALL_TIMEOUT, "{missing} of {probes} probes have not become visible");
        // A slower transaction may commit older probes later, so the rows from `complete` on are read again.
        // If all rows of this query were new, there may be more new ones before them.
        limit = if new == limit { limit * 2 } else { ROWS + beyond.saturating_sub(complete) };
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(found_at.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;

    use super::*;
    use crate::system::servers::Servers;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_that_becomes_visible_after_many_newer_ones_is_found_then() {
        let servers = Servers::start().await.unwrap();
        let mut connection = servers.postgres().await.unwrap();
        let tables = "CREATE SCHEMA probed; CREATE TABLE probed.events (seq bigint, topic text, event_id text)";
        connection.execute(tables).await.unwrap();
        let mut poller = Poller::start(servers.postgres().await.unwrap(), "probed", 1000);
        let insert = |which: &str| {
            let rows = format!("SELECT n, 'probes', 'evt-' || n FROM generate_series(0, 999) n WHERE {which}");
            AssertSqlSafe(format!("INSERT INTO probed.events {rows}"))
        };
        connection.execute(insert("n >= 20")).await.unwrap();
        tokio::time::timeout(STALL_TIMEOUT, poller.visible.wait_for(|visible| *visible == 980)).await.unwrap().unwrap();
        let before = Instant::now();
        connection.execute(insert("n < 20")).await.unwrap();
        let found_at = poller.finish().await.unwrap();
        assert_eq!(found_at.len(), 1000);
        assert!(found_at[..20].iter().all(|at| *at > before) && found_at[20..].iter().all(|at| *at < before));
    }
}
