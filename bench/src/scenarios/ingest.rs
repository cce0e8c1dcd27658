//! Accepting alone: no aggregator runs, so that everything that is accepted stays in the stream.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;

use crate::load::closed;
use crate::load::events::Workload;
use crate::report::figures::{Figures, Group, RATE};
use crate::system::bare::BareServer;
use crate::system::credentials::Credential;
use crate::system::servers::Servers;
use crate::system::sluice::Sluice;
use crate::watch::cpu::{Reading, Watched};
use crate::watch::memory;

/// Publishes the workload, and checks that all of it was appended to the stream. With a credential, the publisher
/// demands it, and each request has it.
pub async fn run(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    credential: Option<&Credential>,
    name: &str,
) -> anyhow::Result<Figures> {
    servers.empty_redis().await?;
    // Nothing is taken from the stream, so the limit on the backlog must be out of reach.
    let mut options = vec!["--max-backlog", "1000000000"];
    options.extend(credential.iter().flat_map(|credential| &credential.options).map(String::as_str));
    let sluice = Sluice::start_with(servers, name, 0, &options).await?;
    let workload = match credential {
        Some(credential) => &Arc::new(workload.authorized(&credential.authorization)),
        None => workload,
    };
    let figures = measure(servers, workload, connections, &sluice).await;
    let figures = sluice.finish(figures).await?;
    servers.empty_redis().await?;
    Ok(figures)
}

/// Sends the workload to the bare server, which keeps nothing of it.
pub async fn bare(workload: &Arc<Workload>, connections: usize) -> anyhow::Result<Figures> {
    let server = BareServer::start().await?;
    let watched = [server.watched(), Watched::ourselves()];
    let before = Reading::of(&watched)?;
    let started = Instant::now();
    closed::send(&server.address, workload, connections).await?;
    let seconds = started.elapsed().as_secs_f64();
    let spent = Reading::of(&watched)?.since(&before);
    let mut figures = Figures::default();
    figures.add(Group::Rate, RATE, workload.events as f64 / 1000.0 / seconds);
    spent.report(&mut figures, &watched, workload.events);
    Ok(figures)
}

async fn measure(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    sluice: &Sluice,
) -> anyhow::Result<Figures> {
    let programs = sluice.processes();
    let mut watched = programs.clone();
    watched.extend([Watched::redis(servers), Watched::ourselves()]);
    let before = Reading::of(&watched)?;
    let started = Instant::now();
    let refused = closed::send(&sluice.address, workload, connections).await?;
    let seconds = started.elapsed().as_secs_f64();
    let spent = Reading::of(&watched)?.since(&before);

    let counts = format!("{}:{{0}}:counts", sluice.name);
    let appended: u64 = redis::cmd("HGET").arg(counts).arg("appended").query_async(&mut servers.redis().await?).await?;
    ensure!(appended == workload.events, "{appended} events in the stream instead of {}", workload.events);
    ensure!(refused == 0, "{refused} requests were refused");
    let mut figures = Figures::default();
    figures.add(Group::Rate, RATE, workload.events as f64 / 1000.0 / seconds);
    spent.report(&mut figures, &watched, workload.events);
    for program in &programs {
        figures.add(Group::Resident, program.name, memory::peak_mib(program)?);
    }
    Ok(figures)
}
