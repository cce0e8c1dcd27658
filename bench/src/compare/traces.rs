//! What traces cost: the same events without a collector, with one and a hundredth of the requests traced, and with each of them
//! traced; in requests of 100 events and of one.

use std::sync::Arc;

use anyhow::Context as _;

use super::measured::Measured;
use crate::load::events::{Workload, WorkloadSpec};
use crate::plan::ComparePlan;
use crate::report::figures::{Figures, Group, RATE};
use crate::scenarios::end_to_end;
use crate::system::bare::BareServer;
use crate::system::servers::Servers;
use crate::system::sluice::Sluice;

/// A request of one event has a small share of the work of one of a hundred, so there are fewer events in them.
const SINGLE_PART: usize = 4;
/// Connections that send requests of one event.
const CONNECTIONS_FOR_SINGLE_EVENTS: usize = 256;

/// A name, the events of a request, and the share of the requests that are traced.
const VARIANTS: [(&str, usize, Option<&str>); 6] = [
    ("requests of 100, not traced", 100, None),
    ("requests of 100, 1% traced", 100, Some("0.01")),
    ("requests of 100, all traced", 100, Some("1")),
    ("requests of 1, not traced", 1, None),
    ("requests of 1, 1% traced", 1, Some("0.01")),
    ("requests of 1, all traced", 1, Some("1")),
];

/// Measures all variants. Returns a table. The collector reads all spans and does nothing with them; its CPU time is not
/// in the table.
///
/// # Errors
/// If something cannot be measured, or is not stored exactly.
pub async fn run(plan: ComparePlan) -> anyhow::Result<String> {
    let servers = Servers::start().await?;
    let collector = BareServer::start().await?;
    let render =
        |events, per_request| Arc::new(Workload::render(WorkloadSpec { per_request, ..WorkloadSpec::new(events, 0) }));
    let (batches, singles) = (render(plan.events, 100), render(plan.events / SINGLE_PART, 1));
    let names = VARIANTS.map(|(name, ..)| name);
    let columns = [
        (RATE, Group::Rate),
        ("publisher, µs", Group::Cpu),
        ("aggregator, µs", Group::Cpu),
        ("Redis, µs", Group::Cpu),
        ("PostgreSQL, µs", Group::Cpu),
        ("all four, µs", Group::Cpu),
    ];
    let mut measured = Measured::new(names.to_vec(), columns, plan.rounds);
    for (round, which) in measured.order() {
        let (_, per_request, share) = VARIANTS[which];
        let name = format!("traces{which}_{round}");
        let load = match per_request {
            1 => (&singles, CONNECTIONS_FOR_SINGLE_EVENTS),
            _ => (&batches, plan.connections),
        };
        let figures = measure(&servers, load, &options(&collector, share), &name).await;
        measured.add(round, which, figures.and_then(|figures| columns_of(&figures)))?;
    }
    Ok(measured.table("all events new"))
}

/// Returns the options of both programs. The limit on the traces of a second is out of reach.
fn options(collector: &BareServer, share: Option<&str>) -> Vec<String> {
    let Some(share) = share else { return Vec::new() };
    let endpoint = format!("http://{}", collector.address);
    let options = ["--otlp-endpoint", &endpoint, "--trace-ratio", share, "--trace-limit", "1000000"];
    options.map(str::to_owned).to_vec()
}

async fn measure(
    servers: &Servers,
    (workload, connections): (&Arc<Workload>, usize),
    options: &[String],
    name: &str,
) -> anyhow::Result<Figures> {
    servers.empty_redis().await?;
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let sluice = Sluice::start_with_both(servers, name, 1, &options, &options).await?;
    let figures = end_to_end::measure(servers, workload, connections, &sluice).await;
    let figures = sluice.finish(figures).await?;
    servers.drop_schema(name).await?;
    Ok(figures)
}

fn columns_of(figures: &Figures) -> anyhow::Result<[f64; 6]> {
    let get = |group, name: &str| figures.get(group, name).with_context(|| format!("no figure {name}"));
    let programs = ["publisher", "aggregator", "Redis", "PostgreSQL"];
    let [publisher, aggregator, redis, postgres] = programs.map(|name| get(Group::Cpu, name));
    let (publisher, aggregator, redis, postgres) = (publisher?, aggregator?, redis?, postgres?);
    let all = publisher + aggregator + redis + postgres;
    Ok([get(Group::Rate, RATE)?, publisher, aggregator, redis, postgres, all])
}
