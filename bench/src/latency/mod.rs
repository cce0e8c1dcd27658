//! Latency at shares of the highest rate: of `/publish`, and from POST until a row is visible.
//!
//! Requests of 100 events are sent at fixed times ([`crate::load::open`]), with 30% duplicates. The
//! last event of each is a probe ([`probe`]): the time from when its request was scheduled until
//! its row can be read is the second latency.

mod probe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::blocks::{Delivery, Expected, Lab, Store};
use crate::load::events::{Recipe, Workload};
use crate::load::open::{self, Schedule};
use crate::plan::LatencyPlan;
use crate::progress::Progress;
use crate::report::figures::{Figures, Group};
use crate::report::goals::P99;
use crate::report::results::{Column, Section};
use crate::system::sluice::Sluice;
use crate::watch::cpu::{Reading, Watched};

/// Events in a request.
const PER_REQUEST: usize = 100;
/// The share of duplicates among all events but the probes.
const DUPLICATE_PERCENT: u8 = 30;
/// The beginning of each block that is not counted: caches and connections are new.
const WARM_UP: Duration = Duration::from_secs(1);

/// Shares of the highest rate, each with its key.
const SHARES: [(f64, &str); 3] = [(0.1, "tenth"), (0.5, "half"), (0.8, "four_fifths")];

/// How many blocks are run.
pub fn steps(plan: &LatencyPlan) -> usize {
    SHARES.iter().map(|(share, _)| blocks(plan, *share)).sum()
}

fn blocks(plan: &LatencyPlan, share: f64) -> usize {
    if share == 0.5 { plan.blocks } else { plan.blocks.div_ceil(2) }
}

/// Measures at all shares of a rate, in events per second.
pub async fn run(lab: &Lab, plan: &LatencyPlan, highest: f64, progress: &Progress) -> anyhow::Result<Section> {
    let mut columns: Vec<Column> =
        SHARES.iter().map(|(share, key)| Column::new(&format!("{:.0}%", share * 100.0), key)).collect();
    for round in 0..plan.blocks {
        for ((share, key), column) in SHARES.iter().zip(&mut columns) {
            if round < blocks(plan, *share) {
                progress.begin(format!("latency at {:.0}% of the highest rate", share * 100.0));
                let name = format!("latency{round}_{key}");
                let figures = block(lab, highest * share, plan.seconds, &name).await;
                let figures = figures.with_context(|| format!("latency at {share} of the highest rate"))?;
                let p99 = |group| figures.get(group, P99).unwrap_or_default();
                progress.end(&format!("p99 {:.1} ms, to the row {:.1} ms", p99(Group::Publish), p99(Group::Row)));
                column.rounds.push((round, figures));
            }
        }
    }
    Ok(Section {
        title: "Latency, by the share of the highest rate",
        says: "Open loop, requests of 100 events with 30% duplicates; the highest rate is the median of the rates \
               end to end at 30% duplicates above. Latency counts from the time for which a request was scheduled.",
        key: "latency",
        columns,
    })
}

async fn block(lab: &Lab, rate: f64, seconds: f64, name: &str) -> anyhow::Result<Figures> {
    let requests = (rate * seconds / PER_REQUEST as f64).ceil().max(1.0) as usize;
    let recipe = Recipe { probes: true, ..Recipe::new(requests * PER_REQUEST, DUPLICATE_PERCENT) };
    let workload = Arc::new(Workload::render(recipe));
    lab.servers.empty_redis().await?;
    let sluice = Sluice::start(&lab.servers, name, 1).await?;
    let figures = measure(lab, rate, &workload, &sluice).await;
    let figures = sluice.finish(figures).await?;
    lab.servers.drop_schema(name).await?;
    Ok(figures)
}

async fn measure(lab: &Lab, rate: f64, workload: &Arc<Workload>, sluice: &Sluice) -> anyhow::Result<Figures> {
    lab.servers.settle().await?;
    let mut watched = sluice.processes();
    watched.extend([Watched::redis(&lab.servers), Watched::postgres(&lab.servers), Watched::ourselves()]);
    let before = Reading::of(&watched)?;
    let poller = probe::Poller::start(lab.servers.postgres().await?, &sluice.name, workload.requests.len());
    let interval = Duration::from_secs_f64(PER_REQUEST as f64 / rate);
    // Connections are opened before the first is due.
    let schedule = Schedule { start: Instant::now() + Duration::from_millis(200), interval };
    let sent = open::send(&sluice.address, workload, schedule).await?;
    let seen = poller.finish().await?;
    let spent = Reading::of(&watched)?.since(&before);

    let mut store = Store::Postgres(lab.servers.postgres().await?);
    let (delivery, expected) = (Delivery::of_schema(&sluice.name), Expected::default().and(workload));
    delivery.wait(&mut store, expected.received).await?;
    delivery.check(&mut store, expected).await?;

    let counted = |number: usize| schedule.at(number) >= schedule.start + WARM_UP;
    let publish = sent.latencies.iter().filter(|(number, _)| counted(*number)).map(|(_, latency)| *latency).collect();
    let row = seen.iter().enumerate().filter(|(number, _)| counted(*number));
    let row = row.map(|(number, at)| at.duration_since(schedule.at(number))).collect();
    let mut figures = Figures::default();
    figures.add(Group::Rate, "asked, k events/s", rate / 1000.0);
    figures.add(Group::Rate, "reached, k events/s", workload.events as f64 / 1000.0 / sent.lasted.as_secs_f64());
    figures.add(Group::Course, "requests answered 429", sent.refused as f64);
    add_percentiles(&mut figures, Group::Publish, publish)?;
    add_percentiles(&mut figures, Group::Row, row)?;
    spent.report(&mut figures, &watched, workload.events);
    Ok(figures)
}

fn add_percentiles(figures: &mut Figures, group: Group, mut latencies: Vec<Duration>) -> anyhow::Result<()> {
    ensure!(!latencies.is_empty(), "the block is too short for its warm-up");
    latencies.sort_unstable();
    for (name, share) in [("p50", 0.5), ("p95", 0.95), (P99, 0.99), ("largest", 1.0)] {
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
    fn a_percentile_is_the_smallest_latency_that_so_many_do_not_exceed() {
        let mut figures = Figures::default();
        let latencies = (1..=200).rev().map(Duration::from_millis).collect();
        add_percentiles(&mut figures, Group::Row, latencies).unwrap();
        let shown: Vec<f64> = figures.0.iter().map(|figure| figure.value).collect();
        assert_eq!(shown, [100.0, 190.0, 198.0, 200.0]);
        assert!(add_percentiles(&mut figures, Group::Row, Vec::new()).is_err());
    }
}
