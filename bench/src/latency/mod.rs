//! Measures latency at fixed rates: of `/publish`, and from POST until a row is visible.
//!
//! Requests of 100 events, 30% of them duplicates, are sent at fixed times ([`crate::load::open`]). The last
//! event of each request is a marker ([`markers`]). The second latency is the time from the scheduled time of the
//! request until the row of its marker can be read. It is divided by that of a probe, which is measured on the same
//! servers once Sluice has ended ([`probe`]).

mod markers;
mod probe;
mod stages;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::load::events::{Workload, WorkloadSpec};
use crate::load::open::{self, Schedule};
use crate::plan::LatencyPlan;
use crate::progress::Progress;
use crate::report::figures::{Figures, Group};
use crate::report::goals::{P50, P50_TO_PROBE, P99, P99_TO_PROBE};
use crate::report::plot::ASKED;
use crate::report::results::{Column, Section};
use crate::scenarios::{Context, Delivery, Expected, Store};
use crate::system::sluice::Sluice;
use crate::system::tables;
use crate::watch::cpu::{Reading, Watched};

/// The number of events in a request.
const PER_REQUEST: usize = 100;
/// The percentage of duplicates among all events except the markers.
const DUPLICATE_PERCENT: u8 = 30;
/// The beginning of each repetition, which is not counted, since caches are empty and connections are new.
const WARM_UP: Duration = Duration::from_secs(1);

/// The rates in thousands of events per second, each with its key in `results.json`.
const RATES: [(u32, &str); 3] = [(5, "rate_5k"), (20, "rate_20k"), (50, "rate_50k")];

/// The name of the mean time that a row is found after it became visible, at most.
const LATE_BY: &str = "a row is found late by up to, ms";

/// Returns the number of steps of the progress bar: one for each repetition.
pub fn steps(plan: &LatencyPlan) -> usize {
    RATES.len() * plan.repetitions
}

/// Measures at each rate.
pub async fn run(context: &Context, plan: &LatencyPlan, progress: &Progress) -> anyhow::Result<Section> {
    let mut columns: Vec<Column> =
        RATES.iter().map(|(rate, key)| Column::new(&format!("{rate},000 events/s"), key)).collect();
    for round in 0..plan.repetitions {
        for ((rate, key), column) in RATES.iter().zip(&mut columns) {
            progress.begin(format!("latency at {rate},000 events/s, {}/{}", round + 1, plan.repetitions));
            let figures =
                at_rate(context, f64::from(*rate) * 1000.0, plan.seconds, &format!("latency{round}_{key}")).await;
            let figures = figures.with_context(|| format!("latency at {rate},000 events/s"))?;
            let figure = |group, name| figures.get(group, name).unwrap_or_default();
            let (row, probe) = (figure(Group::Row, P99), figure(Group::Probe, P99));
            progress.end(&format!("p99 from POST to row {row:.1} ms, of the probe {probe:.1} ms"));
            column.rounds.push((round, figures));
        }
    }
    Ok(Section {
        title: "Latency, by rate",
        description: "Open loop, requests of 100 events with 30% duplicates. Latency counts from the scheduled time of a request. \
               The probe is one append with its flush and one transaction with the rows of 100 events, one after the other, on \
               the same servers while they do nothing else.",
        key: "latency",
        columns,
    })
}

async fn at_rate(context: &Context, rate: f64, seconds: f64, name: &str) -> anyhow::Result<Figures> {
    let requests = (rate * seconds / PER_REQUEST as f64).ceil().max(1.0) as usize;
    let spec = WorkloadSpec { markers: true, ..WorkloadSpec::new(requests * PER_REQUEST, DUPLICATE_PERCENT) };
    let workload = Arc::new(Workload::render(spec));
    context.servers.empty_redis().await?;
    let sluice = Sluice::start(&context.servers, name, 1).await?;
    let figures = measure(context, rate, &workload, &sluice).await;
    let mut figures = sluice.finish(figures).await?;
    let probe = probe::measure(&context.servers, name, PER_REQUEST).await?;
    add_percentiles(&mut figures, Group::Probe, probe)?;
    for (name, ratio) in [(P50, P50_TO_PROBE), (P99, P99_TO_PROBE)] {
        if let (Some(row), Some(probe)) = (figures.get(Group::Row, name), figures.get(Group::Probe, name)) {
            figures.add(Group::Ratio, ratio, row / probe);
        }
    }
    context.servers.drop_schema(name).await?;
    Ok(figures)
}

async fn measure(context: &Context, rate: f64, workload: &Arc<Workload>, sluice: &Sluice) -> anyhow::Result<Figures> {
    context.servers.checkpoint().await?;
    let mut watched = sluice.processes();
    watched.extend([Watched::redis(&context.servers), Watched::postgres(&context.servers), Watched::ourselves()]);
    let table = tables::open_partition(&mut context.servers.postgres().await?, &sluice.name).await?;
    let stages = stages::Stages::of(sluice).await?;
    let before = Reading::of(&watched)?;
    let interval = Duration::from_secs_f64(PER_REQUEST as f64 / rate);
    // The first request is due once all connections are open.
    let schedule = Schedule { start: Instant::now() + Duration::from_millis(200), interval };
    let poller = markers::Poller::start(context.servers.postgres.url(), &table, workload.requests.len(), schedule);
    let sent = open::send(&sluice.address, workload, schedule).await?;
    let visible = poller.finish().await?;
    let spent = Reading::of(&watched)?.since(&before);
    let stages_after = stages::Stages::of(sluice).await?;

    let mut store = Store::Postgres(context.servers.postgres().await?);
    let (delivery, expected) = (Delivery::of_schema(&sluice.name), Expected::default().and(workload));
    delivery.wait(&mut store, expected.received).await?;
    delivery.check(&mut store, expected).await?;

    let counted = |number: usize| schedule.at(number) >= schedule.start + WARM_UP;
    let publish = sent.latencies.iter().filter(|(number, _)| counted(*number)).map(|(_, latency)| *latency).collect();
    let row = visible.found_at.iter().enumerate().filter(|(number, _)| counted(*number));
    let row = row.map(|(number, at)| at.duration_since(schedule.at(number))).collect();
    let mut figures = Figures::default();
    figures.add(Group::Rate, ASKED, rate / 1000.0);
    figures.add(Group::Rate, "reached, k events/s", workload.events as f64 / 1000.0 / sent.lasted.as_secs_f64());
    figures.add(Group::Course, "requests answered 429", sent.refused as f64);
    add_percentiles(&mut figures, Group::Publish, publish)?;
    add_percentiles(&mut figures, Group::Row, row)?;
    stages_after.report(&stages, &mut figures);
    let late_by = visible.late_by.iter().sum::<Duration>() / visible.late_by.len().max(1) as u32;
    figures.add(Group::Course, LATE_BY, late_by.as_secs_f64() * 1000.0);
    spent.report(&mut figures, &watched, workload.events);
    Ok(figures)
}

fn add_percentiles(figures: &mut Figures, group: Group, mut latencies: Vec<Duration>) -> anyhow::Result<()> {
    ensure!(!latencies.is_empty(), "the repetition is shorter than its warm-up");
    latencies.sort_unstable();
    for (name, share) in [(P50, 0.5), ("p95", 0.95), (P99, 0.99), ("largest", 1.0)] {
        let rank = (latencies.len() as f64 * share).ceil() as usize;
        figures.add(group, name, latencies[rank.max(1) - 1].as_secs_f64() * 1000.0);
    }
    if group == Group::Publish {
        figures.add(Group::Course, "requests counted", latencies.len() as f64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_latency_that_this_share_does_not_exceed() {
        let mut figures = Figures::default();
        let latencies = (1..=200).rev().map(Duration::from_millis).collect();
        add_percentiles(&mut figures, Group::Row, latencies).unwrap();
        let shown: Vec<f64> = figures.0.iter().map(|figure| figure.value).collect();
        assert_eq!(shown, [100.0, 190.0, 198.0, 200.0]);
        assert!(add_percentiles(&mut figures, Group::Row, Vec::new()).is_err());
    }
}
