//! The order in which everything is measured.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::load::events::WorkloadSpec;
use crate::plan::{Plan, Scenario};
use crate::progress::Progress;
use crate::report::figures::{Figures, Group, RATE};
use crate::report::goals::{
    COST_OF_OLD, TO_100, TO_ANYBODY, TO_BARE, TO_COPY, TO_COPY_FIXED, TO_PEER, TO_SERVICE, TO_UNREAD,
};
use crate::report::machine;
use crate::report::results::{Column, Results};
use crate::scenarios::copy::Baseline;
use crate::scenarios::{Context, end_to_end};
use crate::sections;
use crate::system::servers::Servers;
use crate::system::{per_event, sluice};
use crate::watch::cpu::WITHOUT_LOAD;
use crate::{growth, latency, retention};

/// Runs the whole plan. Returns the figures, and a description of what was run and on which machine.
pub async fn run(plan: &Plan, target: &Path) -> anyhow::Result<(Results, Value)> {
    let mut plan = plan.clone();
    let python = environment(&mut plan, target);
    let old = old_programs(&mut plan, target);
    let progress = Progress::of(steps(&plan) as u64)?;
    let mut context = Context::new(Servers::start().await?, plan.events, plan.connections);
    (context.python, context.old) = (python, old);
    let first = context.workload(WorkloadSpec::new(plan.events, 0));
    let described = machine::describe(&context, &plan, &first).await?;

    progress.begin("first scenario, not counted");
    let figures = end_to_end::run_and_leave_schema(&context.servers, &first, plan.connections, 1, "first").await?;
    context.copy = Some(Baseline::present(&context.servers, "first").await?);
    context.copy_fixed = Some(Baseline::fixed(&context.servers, "first").await?);
    context.servers.drop_schema("first").await?;
    progress.end(&outcome(&figures));

    let mut results = Results { sections: sections::of(rounds(&mut context, &plan, &progress).await?) };
    compare(&mut results);
    context.release_workloads();
    if let Some(latency) = &plan.latency {
        results.sections.push(latency::run(&context, latency, &progress).await?);
    }
    if let Some(growth) = &plan.growth {
        results.sections.push(growth::run(&context, growth, &progress).await?);
    }
    if let Some(retention) = &plan.retention {
        results.sections.push(retention::run(&context, retention, &progress).await?);
    }
    progress.finish();
    Ok((results, described))
}

fn steps(plan: &Plan) -> usize {
    let scenarios: usize = plan.scenarios.iter().map(|(_, every)| plan.rounds.div_ceil(*every)).sum();
    1 + scenarios
        + plan.latency.as_ref().map_or(0, latency::steps)
        + plan.growth.as_ref().map_or(0, growth::steps)
        + plan.retention.as_ref().map_or(0, retention::steps)
}

/// Returns the Python interpreter for the services. If there is none, removes their scenarios from the plan.
fn environment(plan: &mut Plan, target: &Path) -> Option<PathBuf> {
    let of_service = |scenario: Scenario| {
        matches!(scenario, Scenario::PerEventRedisPostgres | Scenario::PerEventSqlite | Scenario::BatchedPeer)
    };
    if !plan.scenarios.iter().any(|(scenario, _)| of_service(*scenario)) {
        return None;
    }
    match per_event::environment(target) {
        Ok(python) => Some(python),
        Err(error) => {
            eprintln!("{error:#}: the services in Python are NOT measured");
            plan.scenarios.retain(|(scenario, _)| !of_service(*scenario));
            None
        }
    }
}

/// Returns the folder with the programs before partitions. If they cannot be built, removes their scenario from the plan.
fn old_programs(plan: &mut Plan, target: &Path) -> Option<PathBuf> {
    if !plan.scenarios.iter().any(|(scenario, _)| *scenario == Scenario::Dup0Old) {
        return None;
    }
    // The parent is the target folder of cargo.
    match sluice::build_old(target.parent().unwrap_or(target)) {
        Ok(folder) => Some(folder),
        Err(error) => {
            eprintln!("{error:#}: the cost of the programs before partitions is NOT measured");
            plan.scenarios.retain(|(scenario, _)| *scenario != Scenario::Dup0Old);
            None
        }
    }
}

/// Runs all rounds. Returns one column for each scenario, with its figures of every round.
async fn rounds(context: &mut Context, plan: &Plan, progress: &Progress) -> anyhow::Result<Vec<(Scenario, Column)>> {
    let mut columns: Vec<(Scenario, Column)> =
        plan.scenarios.iter().map(|(scenario, _)| (*scenario, sections::column(*scenario))).collect();
    for round in 0..plan.rounds {
        // Each round starts with another scenario, so that none is always measured after the same one.
        for turn in 0..columns.len() {
            let which = (round + turn) % columns.len();
            let (scenario, every) = plan.scenarios[which];
            if round % every != 0 {
                continue;
            }
            let column = &mut columns[which].1;
            progress.begin(format!("round {}/{}, {}", round + 1, plan.rounds, column.key));
            let figures = context.run(scenario, &format!("round{round}_{}", column.key)).await;
            let figures = figures.with_context(|| format!("{} in round {}", column.key, round + 1))?;
            progress.end(&outcome(&figures));
            column.rounds.push((round, figures));
        }
    }
    Ok(columns)
}

/// Adds the ratios: of two rates of the same round, one divided by the other.
fn compare(results: &mut Results) {
    for aggregators in ["", "x2", "x4"] {
        for percent in [0, 30, 90] {
            let column = format!("dup{percent}{aggregators}");
            results.compare(&column, "copy", RATE, TO_COPY);
            results.compare(&column, "copy_fixed", RATE, TO_COPY_FIXED);
        }
    }
    results.compare_cost("dup0", "dup0_old", WITHOUT_LOAD, COST_OF_OLD);
    results.compare("dup30", "per_event_redis_postgres", RATE, TO_SERVICE);
    results.compare("dup30", "batched_peer", RATE, TO_PEER);
    results.compare("standalone", "per_event_sqlite", RATE, TO_SERVICE);
    results.compare("single", "dup0", RATE, TO_100);
    results.compare("ingest1", "bare", RATE, TO_BARE);
    for credential in ["ingest1_token", "ingest1_jwt"] {
        results.compare(credential, "ingest1", RATE, TO_ANYBODY);
    }
    results.compare("ingest1_jwt", "ingest1_unread_jwt", RATE, TO_UNREAD);
}

fn outcome(figures: &Figures) -> String {
    let rate = figures.get(Group::Rate, RATE).map(|rate| format!("{rate:.1} k events/s"));
    rate.or_else(|| figures.0.first().map(|figure| figure.group.show(figure.value))).unwrap_or_default()
}
