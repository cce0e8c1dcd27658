//! The probe: what the servers alone need for a request, while they do nothing else.
//!
//! The entry of a request is appended to a stream of Redis, which answers once it is on the disk. Then the rows of as many
//! events are copied into a table like Sluice's, in one transaction of PostgreSQL. Latency is compared with the sum.

use std::time::{Duration, Instant};

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use sqlx::PgConnection;

use crate::scenarios::copy::{Rows, copy_in};
use crate::system::servers::Servers;
use crate::system::tables;

/// The number of probes, if there are rows for so many.
const TIMES: usize = 300;
/// The first probes, which are not counted, since the connections and the table are new.
const WARM_UP: usize = 20;
/// The entries of the stream among which one of a single request is looked for.
const ENTRIES: usize = 500;

/// Measures the probe with the entries and the rows that were stored under `name`, in a table of the same schema. Returns
/// how long each took.
pub async fn measure(servers: &Servers, name: &str, per_request: usize) -> anyhow::Result<Vec<Duration>> {
    let (mut redis, mut postgres) = (servers.redis().await?, servers.postgres().await?);
    let entry = entry(&mut redis, name, per_request).await?;
    let stored = tables::open_partition(&mut postgres, name).await?;
    let newest = format!("(SELECT * FROM {stored} ORDER BY seq DESC LIMIT {}) newest", TIMES * per_request);
    let rows = Rows::read(&mut postgres, &newest, per_request).await?;
    let table = format!("\"{name}\".probe");
    tables::create_like(&mut postgres, &table, &stored).await?;

    let stream = format!("{name}:probe");
    let copy = format!("COPY {table} FROM STDIN (FORMAT binary)");
    let mut durations = Vec::with_capacity(TIMES);
    for batch in rows.batches() {
        durations.push(probe(&mut redis, &mut postgres, (&stream, &entry, per_request), (&copy, batch)).await?);
    }
    Ok(durations.split_off(WARM_UP.min(durations.len())))
}

async fn probe(
    redis: &mut MultiplexedConnection,
    postgres: &mut PgConnection,
    (stream, entry, events): (&str, &[u8], usize),
    (copy, batch): (&str, &[u8]),
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut append = redis::cmd("XADD");
    append.arg(stream).arg("*").arg("e").arg(entry).arg("n").arg(events);
    let _: String = append.query_async(redis).await.context("the append of the probe")?;
    copy_in(postgres, copy, batch).await.context("the transaction of the probe")?;
    Ok(started.elapsed())
}

/// Returns an entry of a single request. The stream still has some, for a replay.
async fn entry(redis: &mut MultiplexedConnection, name: &str, per_request: usize) -> anyhow::Result<Vec<u8>> {
    let mut range = redis::cmd("XRANGE");
    range.arg(format!("{name}:{{0}}")).arg("-").arg("+").arg("COUNT").arg(ENTRIES);
    let range: StreamRangeReply = range.query_async(redis).await.context("the entries of the stream")?;
    let single = range.ids.iter().find(|entry| entry.get::<usize>("n") == Some(per_request));
    single.and_then(|entry| entry.get("e")).context("the stream has no entry of a single request")
}
