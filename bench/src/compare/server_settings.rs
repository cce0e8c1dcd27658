//! What the settings of PostgreSQL cost or save that the operator chooses for the managed server: each is changed alone.

use std::sync::Arc;

use anyhow::Context as _;

use super::measured::Measured;
use crate::load::events::{Workload, WorkloadSpec};
use crate::plan::ComparePlan;
use crate::report::figures::{Group, RATE};
use crate::scenarios::end_to_end;
use crate::system::servers::Servers;

/// The percentage of duplicates.
const DUPLICATE_PERCENT: u8 = 30;

/// The settings of the managed server that are neither of memory nor of durability, as `postgresql.conf` of the operator has
/// them.
const MANAGED: [(&str, &str); 3] = [("wal_compression", "on"), ("random_page_cost", "1.1"), ("jit", "off")];

/// What differs from the managed server, and its name.
const VARIANTS: [(&str, &[(&str, &str)]); 9] = [
    ("as the managed server", &[]),
    ("wal_compression off", &[("wal_compression", "off")]),
    ("wal_compression lz4", &[("wal_compression", "lz4")]),
    ("jit on", &[("jit", "on")]),
    ("random_page_cost 4", &[("random_page_cost", "4")]),
    ("checkpoint_timeout 5min, max_wal_size 1GB", &[("checkpoint_timeout", "5min"), ("max_wal_size", "1GB")]),
    ("shared_buffers 128MB", &[("shared_buffers", "128MB")]),
    ("wal_buffers 64MB", &[("wal_buffers", "64MB")]),
    ("commit_delay 200", &[("commit_delay", "200"), ("commit_siblings", "1")]),
];

/// Measures all variants. Returns a table.
///
/// # Errors
/// If something cannot be measured, or is not stored exactly.
pub async fn run(plan: ComparePlan) -> anyhow::Result<String> {
    let workload = Arc::new(Workload::render(WorkloadSpec::new(plan.events, DUPLICATE_PERCENT)));
    let names = VARIANTS.map(|(name, _)| name);
    let columns = [(RATE, Group::Rate), ("CPU of PostgreSQL, µs", Group::Cpu), ("WAL, bytes a row", Group::Postgres)];
    let mut measured = Measured::new(names.to_vec(), columns, plan.rounds);
    for (round, which) in measured.order() {
        measured.add(round, which, measure(plan, &workload, VARIANTS[which].1).await)?;
    }
    Ok(measured.table("30% duplicates"))
}

async fn measure(plan: ComparePlan, workload: &Arc<Workload>, changes: &[(&str, &str)]) -> anyhow::Result<[f64; 3]> {
    // A server of its own each time: most of these settings are read when it starts.
    let servers = Servers::start_with(&[&MANAGED[..], changes].concat()).await?;
    // Otherwise its new files of the log would be measured too.
    let warm_up = Arc::new(Workload::render(WorkloadSpec::new(plan.events / 4, DUPLICATE_PERCENT)));
    end_to_end::run(&servers, &warm_up, plan.connections, 1, "warm_up").await?;
    let figures = end_to_end::run(&servers, workload, plan.connections, 1, "settings").await?;
    let get = |group, name: &str| figures.get(group, name).with_context(|| format!("no figure {name}"));
    Ok([get(Group::Rate, RATE)?, get(Group::Cpu, "PostgreSQL")?, get(Group::Postgres, "WAL")?])
}
