//! When rows become visible: the newest rows of the probes' topic are read over the index again and
//! again, on a connection of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::load::events::PROBES;

/// From one look to the next. What a look takes is added to it, so a row is seen this much later
/// than it became visible, at most. Looking takes CPU from what is measured.
const EVERY: Duration = Duration::from_millis(4);
/// For how long no probe may become visible while some are missing.
const STALLED: Duration = Duration::from_secs(30);
/// Rows of one look, beside those among which some are missing: few, since looking costs the server
/// time, and more than a transaction brings.
const ROWS: usize = 32;

/// Looks until every probe was seen.
#[derive(Debug)]
pub struct Poller {
    task: JoinHandle<anyhow::Result<Vec<Instant>>>,
    /// How many were seen so far.
    seen: watch::Receiver<usize>,
}

impl Poller {
    /// Begins, for probes with the numbers below `probes`.
    pub fn start(connection: PgConnection, schema: &str, probes: usize) -> Self {
        let newest =
            format!("SELECT event_id FROM \"{schema}\".events WHERE topic = '{PROBES}' ORDER BY seq DESC LIMIT $1");
        let (progress, seen) = watch::channel(0);
        Self { task: tokio::spawn(look(connection, newest, probes, progress)), seen }
    }

    /// Waits for the last; answers when each was first seen.
    pub async fn finish(self) -> anyhow::Result<Vec<Instant>> {
        let outcome = self.task.await.context("the probes' poller broke off")?;
        outcome.with_context(|| format!("{} probes were seen", *self.seen.borrow()))
    }
}

async fn look(
    mut connection: PgConnection,
    newest: String,
    probes: usize,
    progress: watch::Sender<usize>,
) -> anyhow::Result<Vec<Instant>> {
    let mut seen: Vec<Option<Instant>> = vec![None; probes];
    let (mut missing, mut moved, mut limit) = (probes, Instant::now(), ROWS);
    // All below the first are seen, none from the second on.
    let (mut complete, mut beyond) = (0_usize, 0_usize);
    while missing > 0 {
        let query = sqlx::query_scalar(AssertSqlSafe(newest.clone())).bind(limit as i64);
        let rows: Vec<String> = query.fetch_all(&mut connection).await.context("a look for probes")?;
        let now = Instant::now();
        let mut new = 0;
        for id in &rows {
            let number: usize = id.trim_start_matches("evt-").parse().with_context(|| format!("the probe {id}"))?;
            let slot = seen.get_mut(number).with_context(|| format!("the probe {id} was not sent"))?;
            if slot.is_none() {
                *slot = Some(now);
                new += 1;
                beyond = beyond.max(number + 1);
            }
        }
        while seen.get(complete).is_some_and(Option::is_some) {
            complete += 1;
        }
        missing -= new;
        progress.send_replace(probes - missing);
        if new > 0 {
            moved = now;
        }
        ensure!(moved.elapsed() < STALLED, "{missing} of {probes} probes do not become visible");
        // A slower transaction may commit older ones behind what is seen; and where all were new,
        // there may be more behind them.
        limit = if new == limit { limit * 2 } else { ROWS + beyond.saturating_sub(complete) };
        tokio::time::sleep(EVERY).await;
    }
    Ok(seen.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;

    use super::*;
    use crate::system::servers::Servers;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_that_becomes_visible_behind_many_newer_ones_is_seen_then() {
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
        tokio::time::timeout(STALLED, poller.seen.wait_for(|seen| *seen == 980)).await.unwrap().unwrap();
        let before = Instant::now();
        connection.execute(insert("n < 20")).await.unwrap();
        let seen = poller.finish().await.unwrap();
        assert_eq!(seen.len(), 1000);
        assert!(seen[..20].iter().all(|at| *at > before) && seen[20..].iter().all(|at| *at < before));
    }
}
