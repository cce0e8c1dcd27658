//! Measures the memory of a backlog in Redis: samples the stream while a scenario runs.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::report::figures::{Figures, Group};

/// The time from one query to the next: short enough for a peak that lasts a second, and so long that the
/// queries use almost no CPU.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The factor by which the backlog must grow until its memory is measured again. `MEMORY USAGE` reads all
/// nodes of the stream, and Redis handles nothing else meanwhile.
const GROWTH: f64 = 1.1;

/// The state of the stream at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    /// The largest number of appended and unacknowledged events so far.
    largest: u64,
    /// The number of appended and unacknowledged events at this time.
    backlog: u64,
    /// The number of entries in the stream, which include the acknowledged ones of the replay window.
    entries: u64,
    /// The bytes of the stream (`MEMORY USAGE`).
    stream_bytes: u64,
    /// The bytes that the server uses (`used_memory`).
    used_memory: u64,
}

/// Samples a stream until it is stopped.
#[derive(Debug)]
pub struct BacklogWatch {
    stop: CancellationToken,
    peak: JoinHandle<anyhow::Result<Sample>>,
    connection: MultiplexedConnection,
    stream: String,
    memory_before: u64,
}

impl BacklogWatch {
    /// Starts with stream 0 of a prefix. To be called before anything is sent.
    pub async fn start(mut connection: MultiplexedConnection, prefix: &str) -> anyhow::Result<Self> {
        let stream = format!("{prefix}:{{0}}");
        let memory_before = used_memory(&mut connection).await?;
        let stop = CancellationToken::new();
        let peak = tokio::spawn(find_peak(connection.clone(), stream.clone(), stop.clone()));
        Ok(Self { stop, peak, connection, stream, memory_before })
    }

    /// Stops, and adds the memory of the stream when the backlog was largest.
    pub async fn finish(mut self, figures: &mut Figures) -> anyhow::Result<()> {
        self.stop.cancel();
        let peak = self.peak.await.context("the task that samples Redis failed")??;
        let appended: u64 =
            redis::cmd("HGET").arg(counts(&self.stream)).arg("appended").query_async(&mut self.connection).await?;
        let info: HashMap<String, redis::Value> =
            redis::cmd("XINFO").arg("STREAM").arg(&self.stream).query_async(&mut self.connection).await?;
        let entries_ever = info.get("entries-added").context("XINFO of the stream has no entries-added")?;
        let entries_ever: u64 = redis::from_redis_value_ref(entries_ever)?;

        let per_entry = appended as f64 / entries_ever.max(1) as f64;
        let events_in_stream = (peak.entries as f64 * per_entry).max(1.0);
        let grown = peak.used_memory.saturating_sub(self.memory_before) as f64;
        figures.add(
            Group::Redis,
            "stream, per event in it (MEMORY USAGE)",
            peak.stream_bytes as f64 / events_in_stream,
        );
        figures.add(Group::Redis, "growth of used_memory, per event in the stream", grown / events_in_stream);
        figures.add(
            Group::Redis,
            "growth of used_memory, per unacknowledged event",
            grown / peak.backlog.max(1) as f64,
        );
        figures.add(Group::Course, "largest backlog, thousands of events", peak.largest as f64 / 1000.0);
        figures.add(Group::Course, "events per stream entry", per_entry);
        Ok(())
    }
}

async fn find_peak(
    mut connection: MultiplexedConnection,
    stream: String,
    stop: CancellationToken,
) -> anyhow::Result<Sample> {
    let mut peak = Sample::default();
    while !stop.is_cancelled() {
        let backlog = backlog(&mut connection, &stream).await?;
        if backlog as f64 > peak.backlog as f64 * GROWTH {
            peak = sample(&mut connection, &stream, backlog).await?;
        }
        peak.largest = peak.largest.max(backlog);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
    Ok(peak)
}

async fn backlog(connection: &mut MultiplexedConnection, stream: &str) -> anyhow::Result<u64> {
    let mut counters = redis::cmd("HMGET");
    counters.arg(counts(stream)).arg("appended").arg("acknowledged");
    let (appended, acknowledged): (Option<u64>, Option<u64>) =
        counters.query_async(connection).await.context("the stream's counters")?;
    Ok(appended.unwrap_or(0).saturating_sub(acknowledged.unwrap_or(0)))
}

async fn sample(connection: &mut MultiplexedConnection, stream: &str, backlog: u64) -> anyhow::Result<Sample> {
    let (entries, stream_bytes): (u64, Option<u64>) = redis::pipe()
        .cmd("XLEN")
        .arg(stream)
        .cmd("MEMORY")
        .arg("USAGE")
        .arg(stream)
        // All nodes: by default Redis samples a few, which need not be like the others.
        .arg("SAMPLES")
        .arg(0)
        .query_async(connection)
        .await
        .context("the memory of the stream")?;
    let used_memory = used_memory(connection).await?;
    Ok(Sample { largest: backlog, backlog, entries, stream_bytes: stream_bytes.unwrap_or(0), used_memory })
}

async fn used_memory(connection: &mut MultiplexedConnection) -> anyhow::Result<u64> {
    let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(connection).await?;
    info.get("used_memory").context("INFO of Redis has no used_memory")
}

fn counts(stream: &str) -> String {
    format!("{stream}:counts")
}
