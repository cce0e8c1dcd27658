//! How the rate and the cost of an event change with the number of streams and of aggregators, on one machine.

use std::sync::Arc;

use anyhow::Context as _;

use super::measured::Measured;
use crate::load::events::{Workload, WorkloadSpec};
use crate::plan::ComparePlan;
use crate::report::figures::{Figures, Group, RATE};
use crate::scenarios::end_to_end;
use crate::system::servers::Servers;

/// The percentage of duplicates.
const DUPLICATE_PERCENT: u8 = 30;

/// A name, the streams and the aggregators.
const VARIANTS: [(&str, usize, usize); 7] = [
    ("1 stream, 1 aggregator", 1, 1),
    ("2 streams, 1 aggregator", 2, 1),
    ("4 streams, 1 aggregator", 4, 1),
    ("1 stream, 2 aggregators", 1, 2),
    ("1 stream, 4 aggregators", 1, 4),
    ("1 stream, 8 aggregators", 1, 8),
    ("4 streams, 4 aggregators", 4, 4),
];

/// Measures all variants. Returns a table.
///
/// # Errors
/// If something cannot be measured, or is not stored exactly.
pub async fn run(plan: ComparePlan) -> anyhow::Result<String> {
    let servers = Servers::start().await?;
    let workload = Arc::new(Workload::render(WorkloadSpec::new(plan.events, DUPLICATE_PERCENT)));
    let names = VARIANTS.map(|(name, _, _)| name);
    let columns = [
        (RATE, Group::Rate),
        ("publisher, µs", Group::Cpu),
        ("Redis, µs", Group::Cpu),
        ("aggregators, µs", Group::Cpu),
        ("PostgreSQL, µs", Group::Cpu),
        ("largest aggregator, MiB", Group::Resident),
    ];
    let mut measured = Measured::new(names.to_vec(), columns, plan.rounds);
    for (round, which) in measured.order() {
        let (_, streams, aggregators) = VARIANTS[which];
        let name = format!("scaling{which}_{round}");
        let figures =
            end_to_end::run_with_streams(&servers, &workload, plan.connections, (streams, aggregators), &name).await;
        measured.add(round, which, figures.and_then(|figures| columns_of(&figures)))?;
    }
    Ok(measured.table("30% duplicates"))
}

fn columns_of(figures: &Figures) -> anyhow::Result<[f64; 6]> {
    let get = |group, name: &str| figures.get(group, name).with_context(|| format!("no figure {name}"));
    Ok([
        get(Group::Rate, RATE)?,
        get(Group::Cpu, "publisher")?,
        get(Group::Cpu, "Redis")?,
        get(Group::Cpu, "aggregator")?,
        get(Group::Cpu, "PostgreSQL")?,
        get(Group::Resident, "aggregator")?,
    ])
}
