//! `standalone`: everything in one process, on SQLite.

use std::sync::Arc;

use super::{Delivery, Expected, Store};
use crate::load::events::Workload;
use crate::report::figures::{Figures, Group, RATE};
use crate::system::sluice::Sluice;
use crate::watch::cpu::{Reading, Watched};
use crate::watch::memory;

/// Publishes the workload to a new process with an empty folder, and checks that it was stored exactly.
pub async fn run(workload: &Arc<Workload>, connections: usize, name: &str) -> anyhow::Result<Figures> {
    let sluice = Sluice::start_standalone(name).await?;
    let figures = measure(workload, connections, &sluice).await;
    let data = sluice.data().to_owned();
    let figures = sluice.finish(figures).await?;
    std::fs::remove_dir_all(data)?;
    Ok(figures)
}

async fn measure(workload: &Arc<Workload>, connections: usize, sluice: &Sluice) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let mut watched = sluice.processes();
    for program in &watched {
        figures.add(Group::Idle, program.name, memory::resident_mib(program)?);
    }
    let programs = watched.clone();
    watched.push(Watched::ourselves());
    let mut store = Store::sqlite(&sluice.data().join("store.db")).await?;
    let (delivery, expected) = (Delivery::of_sluice(""), Expected::default().and(workload));

    let before = Reading::of(&watched)?;
    let course = delivery.deliver(&mut store, &sluice.address, workload, connections, expected).await?;
    let spent = Reading::of(&watched)?.since(&before);

    delivery.check(&mut store, expected).await?;
    figures.add(Group::Rate, RATE, workload.events as f64 / 1000.0 / course.seconds);
    spent.report(&mut figures, &watched, workload.events);
    for program in &programs {
        figures.add(Group::Resident, program.name, memory::peak_mib(program)?);
    }
    Ok(figures)
}
