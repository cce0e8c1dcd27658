//! The order of the run.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::blocks::copy::Bar;
use crate::blocks::{Lab, RATE, end_to_end};
use crate::load::events::Recipe;
use crate::plan::{Measure, Plan};
use crate::progress::Progress;
use crate::report::figures::{Figures, Group, Spread};
use crate::report::goals::{TO_100, TO_COPY, TO_SERVICE};
use crate::report::machine;
use crate::report::results::{Column, Results};
use crate::sections;
use crate::system::per_event;
use crate::system::servers::Servers;
use crate::{growth, latency};

/// Runs everything; answers the figures, and what was run and where.
pub async fn run(plan: &Plan, target: &Path) -> anyhow::Result<(Results, Value)> {
    let mut plan = plan.clone();
    let python = environment(&mut plan, target);
    let progress = Progress::of(steps(&plan) as u64)?;
    let mut lab = Lab::new(Servers::start().await?, plan.events, plan.connections);
    lab.python = python;
    let first = lab.workload(Recipe::new(plan.events, 0));
    let described = machine::describe(&lab, &plan, &first).await?;

    progress.begin("first block, not counted");
    let figures = end_to_end::run_and_keep(&lab.servers, &first, plan.connections, 1, "first").await?;
    lab.bar = Some(Bar::of(&lab.servers, "first").await?);
    lab.servers.drop_schema("first").await?;
    progress.end(&outcome(&figures));

    let mut results = Results { sections: sections::of(rounds(&mut lab, &plan, &progress).await?) };
    compare(&mut results);
    lab.forget();
    if let Some(latency) = &plan.latency {
        let rates = results.column("dup30").map(|column| column.values(Group::Rate, RATE)).unwrap_or_default();
        let highest = Spread::of(rates).context("no rate at 30% duplicates")?.median * 1000.0;
        results.sections.push(latency::run(&lab, latency, highest, &progress).await?);
    }
    if let Some(growth) = &plan.growth {
        results.sections.push(growth::run(&lab, growth, &progress).await?);
    }
    progress.finish();
    Ok((results, described))
}

fn steps(plan: &Plan) -> usize {
    let blocks: usize = plan.blocks.iter().map(|(_, every)| plan.rounds.div_ceil(*every)).sum();
    1 + blocks + plan.latency.as_ref().map_or(0, latency::steps) + plan.growth.as_ref().map_or(0, growth::steps)
}

/// The services' interpreter; without one, they are left out of the plan.
fn environment(plan: &mut Plan, target: &Path) -> Option<std::path::PathBuf> {
    let service = |measure: Measure| matches!(measure, Measure::PerEventRedisPostgres | Measure::PerEventSqlite);
    if !plan.blocks.iter().any(|(measure, _)| service(*measure)) {
        return None;
    }
    match per_event::environment(target) {
        Ok(python) => Some(python),
        Err(error) => {
            eprintln!("{error:#}: the services that store each event for itself are NOT measured");
            plan.blocks.retain(|(measure, _)| !service(*measure));
            None
        }
    }
}

/// All that is measured in rounds: a column each.
async fn rounds(lab: &mut Lab, plan: &Plan, progress: &Progress) -> anyhow::Result<Vec<(Measure, Column)>> {
    let mut columns: Vec<(Measure, Column)> =
        plan.blocks.iter().map(|(measure, _)| (*measure, sections::column(*measure))).collect();
    for round in 0..plan.rounds {
        // In turn another first.
        for turn in 0..columns.len() {
            let which = (round + turn) % columns.len();
            let (measure, every) = plan.blocks[which];
            if round % every != 0 {
                continue;
            }
            let column = &mut columns[which].1;
            progress.begin(format!("round {}/{}, {}", round + 1, plan.rounds, column.key));
            let block = lab.run(measure, &format!("round{round}_{}", column.key)).await;
            let figures = block.with_context(|| format!("{} in round {}", column.key, round + 1))?;
            progress.end(&outcome(&figures));
            column.rounds.push((round, figures));
        }
    }
    Ok(columns)
}

/// Divides the rates of each round by each other.
fn compare(results: &mut Results) {
    for aggregators in ["", "x2", "x4"] {
        for percent in [0, 30, 90] {
            results.compare(&format!("dup{percent}{aggregators}"), "copy", RATE, TO_COPY);
        }
    }
    results.compare("dup30", "per_event_redis_postgres", RATE, TO_SERVICE);
    results.compare("standalone", "per_event_sqlite", RATE, TO_SERVICE);
    results.compare("single", "dup0", RATE, TO_100);
}

fn outcome(figures: &Figures) -> String {
    let rate = figures.get(Group::Rate, RATE).map(|rate| format!("{rate:.1} k events/s"));
    rate.or_else(|| figures.0.first().map(|figure| figure.group.show(figure.value))).unwrap_or_default()
}
