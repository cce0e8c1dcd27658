//! Sluice end to end: from the first POST until every row is committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sluice_tests::store::Snapshot;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::backlog::BacklogWatch;
use crate::cpu::{Reading, Watched};
use crate::events::Workload;
use crate::figures::{Figures, Group};
use crate::load;
use crate::rounds::RATE;
use crate::servers::Servers;
use crate::sluice::Sluice;
use crate::space;

/// How long the store may stand still before the block has failed.
const STALLED: Duration = Duration::from_secs(30);

/// Publishes the workload to new processes on an empty schema, which is left as `name`, and checks
/// that it was stored exactly.
///
/// # Errors
/// When it was not: such a block has no figures.
pub async fn run(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    name: &str,
) -> anyhow::Result<Figures> {
    servers.empty_redis().await?;
    let sluice = Sluice::start(servers, name).await?;
    let figures = measure(servers, workload, connections, &sluice).await;
    let figures = figures.with_context(|| sluice.last_words())?;
    sluice.stop().await?;
    Ok(figures)
}

async fn measure(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    sluice: &Sluice,
) -> anyhow::Result<Figures> {
    let mut connection = servers.postgres().await?;
    let programs = sluice.processes();
    let mut watched = programs.to_vec();
    watched.extend([Watched::redis(servers), Watched::postgres(servers), Watched::ourselves()]);
    servers.settle().await?;
    let backlog = BacklogWatch::start(servers.redis().await?, &sluice.name).await?;

    let wal = space::wal_position(&mut connection).await?;
    let before = Reading::of(&watched)?;
    let started = Instant::now();
    let refused = load::send(&sluice.address, workload, connections).await?;
    let accepted_after = started.elapsed().as_secs_f64();
    wait_until_received(&mut connection, &sluice.name, workload.events).await?;
    let seconds = started.elapsed().as_secs_f64();
    let spent = Reading::of(&watched)?.since(&before);

    let stored = sluice.reader().await?.snapshot().await?;
    check_exact(&stored, workload)?;
    let thousands = workload.events as f64 / 1000.0;
    let mut figures = Figures::default();
    figures.add(Group::Rate, RATE, thousands / seconds);
    spent.report(&mut figures, &watched, workload.events);
    space::measure(&mut figures, &mut connection, &sluice.name, workload.unique(), wal).await?;
    backlog.finish(&mut figures).await?;
    figures.add(Group::Course, "accepted, k events/s", thousands / accepted_after);
    figures.add(Group::Course, "requests answered 429", refused as f64);
    for program in &programs {
        figures.add(Group::Resident, program.name, program.peak_resident_mib()?);
    }
    Ok(figures)
}

/// Counters are committed with the rows that they count, so reading them is enough.
async fn wait_until_received(connection: &mut PgConnection, schema: &str, events: u64) -> anyhow::Result<()> {
    let received = format!("SELECT coalesce(sum(received), 0)::bigint FROM \"{schema}\".counters");
    let (mut last, mut moved) = (-1, Instant::now());
    loop {
        let now: i64 = sqlx::query_scalar(AssertSqlSafe(received.clone())).fetch_one(&mut *connection).await?;
        if now >= events as i64 {
            return Ok(());
        }
        if now > last {
            (last, moved) = (now, Instant::now());
        } else if moved.elapsed() > STALLED {
            bail!("{now} of {events} events received, and no more for {STALLED:?}");
        }
        // Rarely while far from the end, then often enough for the time to be exact.
        let pause = if (now as u64) < events * 9 / 10 { 50 } else { 2 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn check_exact(stored: &Snapshot, workload: &Workload) -> anyhow::Result<()> {
    let expected = Snapshot {
        received: workload.events as i64,
        unique: workload.unique() as i64,
        duplicates: workload.duplicates as i64,
        conflicts: 0,
        rows: workload.unique() as i64,
        dead_lettered: 0,
    };
    ensure!(*stored == expected, "not exact: {stored:?} instead of {expected:?}");
    Ok(())
}
