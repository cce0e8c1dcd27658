//! Sluice end to end: from the first POST until the last row is committed.

use std::path::Path;
use std::sync::Arc;

use super::{Delivery, Expected, Store};
use crate::load::events::Workload;
use crate::report::figures::{Figures, Group, RATE};
use crate::system::servers::Servers;
use crate::system::sluice::Sluice;
use crate::watch::backlog::BacklogWatch;
use crate::watch::cpu::{Reading, Watched};
use crate::watch::{memory, space};

/// Publishes the workload to new processes on an empty schema, checks that it was stored exactly, and
/// removes the schema.
///
/// # Errors
/// If the workload was not stored exactly: then the figures would mean nothing.
pub async fn run(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    aggregators: usize,
    name: &str,
) -> anyhow::Result<Figures> {
    let figures = run_and_leave_schema(servers, workload, connections, aggregators, name).await?;
    servers.drop_schema(name).await?;
    Ok(figures)
}

/// Does the same as [`run`] with one aggregator, with the programs in a folder.
pub async fn run_from(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    folder: &Path,
    name: &str,
) -> anyhow::Result<Figures> {
    servers.empty_redis().await?;
    let sluice = Sluice::start_from(servers, name, folder).await?;
    let figures = measure(servers, workload, connections, &sluice).await;
    let figures = sluice.finish(figures).await?;
    servers.drop_schema(name).await?;
    Ok(figures)
}

/// Does the same as [`run`] with so many streams and aggregators.
pub async fn run_with_streams(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    (streams, aggregators): (usize, usize),
    name: &str,
) -> anyhow::Result<Figures> {
    servers.empty_redis().await?;
    // The aggregators look for new streams every few seconds only, so they are told.
    let streams = ["--streams", &streams.to_string()];
    let sluice = Sluice::start_with_both(servers, name, aggregators, &streams, &streams).await?;
    let figures = measure(servers, workload, connections, &sluice).await;
    let figures = sluice.finish(figures).await?;
    servers.drop_schema(name).await?;
    Ok(figures)
}

/// Does the same as [`run`], but leaves the schema, which is called `name`.
pub async fn run_and_leave_schema(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    aggregators: usize,
    name: &str,
) -> anyhow::Result<Figures> {
    servers.empty_redis().await?;
    let sluice = Sluice::start(servers, name, aggregators).await?;
    let figures = measure(servers, workload, connections, &sluice).await;
    sluice.finish(figures).await
}

/// Publishes the workload to processes that are running, and checks that it was stored exactly.
///
/// # Errors
/// If it was not.
pub async fn measure(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    sluice: &Sluice,
) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let programs = sluice.processes();
    for program in &programs {
        figures.add(Group::Idle, program.name, memory::resident_mib(program)?);
    }
    let mut watched = programs.clone();
    watched.extend([Watched::redis(servers), Watched::postgres(servers), Watched::ourselves()]);
    let mut connection = servers.postgres().await?;
    let mut store = Store::Postgres(servers.postgres().await?);
    let (delivery, expected) = (Delivery::of_schema(&sluice.name), Expected::default().and(workload));
    servers.checkpoint().await?;
    let backlog = BacklogWatch::start(servers.redis().await?, &sluice.name).await?;

    let wal = space::wal_position(&mut connection).await?;
    let before = Reading::of(&watched)?;
    let course = delivery.deliver(&mut store, &sluice.address, workload, connections, expected).await?;
    let spent = Reading::of(&watched)?.since(&before);

    delivery.check(&mut store, expected).await?;
    let thousands = workload.events as f64 / 1000.0;
    figures.add(Group::Rate, RATE, thousands / course.seconds);
    spent.report(&mut figures, &watched, workload.events);
    space::measure(&mut figures, &mut connection, &sluice.name, (workload.unique(), workload.unique()), wal).await?;
    backlog.finish(&mut figures).await?;
    figures.add(Group::Course, "accepted, k events/s", thousands / course.accepted_after);
    figures.add(Group::Course, "requests answered 429", course.refused as f64);
    for program in &programs {
        figures.add(Group::Resident, program.name, memory::peak_mib(program)?);
    }
    Ok(figures)
}
