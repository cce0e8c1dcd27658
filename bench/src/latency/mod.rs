//! Measures latency at shares of the highest rate: of `/publish`, and from POST until a row is visible.
//!
//! Requests of 100 events, 30% of them duplicates, are sent at fixed times ([`crate::load::open`]). The last
//! event of each request is a probe ([`probe`]). The second latency is the time from the scheduled time of the
//! request until the row of its probe can be read.

mod probe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::load::events::{Workload, WorkloadSpec};
use crate::load::open::{self, Schedule};
use crate::plan::LatencyPlan;
use crate::progress::Progress;
use crate::report::figures::{Figures, Group};
use crate::report::goals::P99;
use crate::report::results::{Column, Section};
use crate::scenarios::{Context, Delivery, Expected, Store};
use crate::system::sluice::Sluice;
use crate::watch::cpu::{Reading, Watched};

/// The number of events in a request.
const PER_REQUEST: usize = 100;
/// The percentage of duplicates among all events except the probes.
const DUPLICATE_PERCENT: u8 = 30;
/// The beginning of each repetition, which is not counted, since caches are empty and connections are new.
const WARM_UP: Duration = Duration::from_secs(1);

/// The shares of the highest rate, each with its key in `results.json`.
const SHARES: [(f64, &str); 3] = [(0.1, "tenth"), (0.5, "half"), (0.8, "four_fifths")];

/// Returns the number of steps of the progress bar: one for each repetition.
pub fn steps(plan: &LatencyPlan) -> usize {
    SHARES.iter().map(|(share, _)| repetitions(plan, *share)).sum()
}

fn repetitions(plan: &LatencyPlan, share: f64) -> usize {
    if share == 0.5 { plan.repetitions } else { plan.repetitions.div_ceil(2) }
}

/// Measures at each share of `highest`, a rate in events per second.
pub async fn run(context: &Context, plan: &LatencyPlan, highest: f64, progress: &Progress) -> anyhow::Result<Section> {
    let mut columns: Vec<Column> =
        SHARES.iter().map(|(share, key)| Column::new(&format!("{:.0}%", share * 100.0), key)).collect();
    for round in 0..plan.repetitions {
        for ((share, key), column) in SHARES.iter().zip(&mut columns) {
            if round < repetitions(plan, *share) {
                progress.begin(format!("latency at {:.0}% of the highest rate", share * 100.0));
                let name = format!("latency{round}_{key}");
                let figures = at_rate(context, highest * share, plan.seconds, &name).await;
                let figures = figures.with_context(|| format!("latency at {share} of the highest rate"))?;
                let p99 = |group| figures.get(group, P99).unwrap_or_default();
                progress.end(&format!("p99 {:.1} ms, to the row {:.1} ms", p99(Group::Publish), p99(Group::Row)));
                column.rounds.push((round, figures));
            }
        }
    }
    Ok(Section {
        title: "Latency, by the share of the highest rate",
        description: "Open loop, requests of 100 events with 30% duplicates; the highest rate is the median of the rates \
               end to end at 30% duplicates above. Latency counts from the scheduled time of a request.",
        key: "latency",
        columns,
    })
}

async fn at_rate(context: &Context, rate: f64, seconds: f64, name: &str) -> anyhow::Result<Figures> {
    let requests = (rate * seconds / PER_REQUEST as f64).ceil().max(1.0) as usize;
    let spec = WorkloadSpec { probes: true, ..WorkloadSpec::new(requests * PER_REQUEST, DUPLICATE_PERCENT) };
    let workload = Arc::new(Workload::render(spec));
    context.servers.empty_redis().await?;
    let sluice = Sluice::start(&context.servers, name, 1).await?;
    let figures = measure(context, rate, &workload, &sluice).await;
    let figures = sluice.finish(figures).await?;
    context.servers.drop_schema(name).await?;
    Ok(figures)
}

async fn measure(context: &Context, rate: f64, workload: &Arc<Workload>, sluice: &Sluice) -> anyhow::Result<Figures> {
    context.servers.checkpoint().await?;
    let mut watched = sluice.processes();
    watched.extend([Watched::redis(&context.servers), Watched::postgres(&context.servers), Watched::ourselves()]);
    let before = Reading::of(&watched)?;
    let poller = probe::Poller::start(context.servers.postgres().await?, &sluice.name, workload.requests.len());
    let interval = Duration::from_secs_f64(PER_REQUEST as f64 / rate);
    // The first request is due once all connections are open.
    let schedule = Schedule { start: Instant::now() + Duration::from_millis(200), interval };
    let sent = open::send(&sluice.address, workload, schedule).await?;
    let visible_at = poller.finish().await?;
    let spent = Reading::of(&watched)?.since(&before);

    let mut store = Store::Postgres(context.servers.postgres().await?);
    let (delivery, expected) = (Delivery::of_schema(&sluice.name), Expected::default().and(workload));
    delivery.wait(&mut store, expected.received).await?;
    delivery.check(&mut store, expected).await?;

    let counted = |number: usize| schedule.at(number) >= schedule.start + WARM_UP;
    let publish = sent.latencies.iter().filter(|(number, _)| counted(*number)).map(|(_, latency)| *latency).collect();
    let row = visible_at.iter().enumerate().filter(|(number, _)| counted(*number));
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
    ensure!(!latencies.is_empty(), "the repetition is shorter than its warm-up");
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
    fn a_percentile_is_the_smallest_latency_that_this_share_does_not_exceed() {
        let mut figures = Figures::default();
        let latencies = (1..=200).rev().map(Duration::from_millis).collect();
        add_percentiles(&mut figures, Group::Row, latencies).unwrap();
        let shown: Vec<f64> = figures.0.iter().map(|figure| figure.value).collect();
        assert_eq!(shown, [100.0, 190.0, 198.0, 200.0]);
        assert!(add_percentiles(&mut figures, Group::Row, Vec::new()).is_err());
    }
}
