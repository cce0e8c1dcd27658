//! The benchmark: measures the throughput, latency and cost of Sluice, and compares them with raw COPY
//! of the same rows and with services of the kind that Sluice replaces.
//!
//! ```text
//! servers ── a first scenario, not counted ── COPY uses its rows
//!    ├─ rounds: COPY │ Sluice with 0, 30, 90% duplicates │ more aggregators │ services │ …   (scenarios)
//!    │    └─ each scenario: empty tables · checkpoint · run · compare what is stored · figures
//!    ├─ latency at fixed rates, and that of the servers alone                                (latency)
//!    ├─ rates, queries and memory as the tables grow                                         (growth)
//!    └─ rates under retention and without                                                    (retention)
//! or, with `--bounds`: an honest client beside each kind of hostile client                   (bounds)
//! or, with `--compare`: variants of a table, of the settings, of the numbers of processes        (compare)
//! figures ──▶ tables, results.json, plots                                                    (report)
//! ```
//!
//! Other work on the machine changes the rates for seconds at a time. Therefore each scenario is measured
//! once in each round, and rates are compared only with rates of the same round.

mod bounds;
mod compare;
mod growth;
mod latency;
mod load;
mod plan;
mod progress;
mod report;
mod retention;
mod run;
mod scenarios;
mod sections;
mod system;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::plan::{Cli, ComparePlan, Comparison, Plan};
use crate::report::json;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // In a separate task, because the library that the tests share panics when it cannot continue.
    let measured = match (cli.bare_server(), cli.bounds()) {
        (Some(address), _) => {
            let address = address.to_owned();
            tokio::spawn(async move { system::bare::serve(&address).await })
        }
        (None, Some(hostile)) => tokio::spawn(measure_bounds(hostile.to_vec())),
        (None, None) => match cli.compare() {
            Some((comparison, plan)) => tokio::spawn(measure_comparison(comparison, plan)),
            None => tokio::spawn(run_and_report(Plan::from(cli))),
        },
    };
    let outcome = measured.await.context("the task of the benchmark failed").flatten();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run_and_report(plan: Plan) -> anyhow::Result<()> {
    system::sluice::build()?;
    let target = target()?;
    let (results, run) = run::run(&plan, &target).await?;
    let report = report::markdown(&results, &run);
    json::save(&target.join("results.json"), &json::json(&results, run))?;
    let path = target.join("report.md");
    std::fs::write(&path, &report).with_context(|| path.display().to_string())?;
    let plots = report::plot::save(&target, &results)?;
    let written = format!(
        "\n{report}\nwritten to {} and, for programs, to results.json in the same folder, with {} plots\n",
        path.display(),
        plots.len()
    );
    std::io::stdout().write_all(written.as_bytes())?;
    Ok(())
}

async fn measure_bounds(hostile: Vec<bounds::Hostile>) -> anyhow::Result<()> {
    system::sluice::build()?;
    let table = bounds::run(&hostile).await?;
    std::io::stdout().write_all(format!("\n{table}\n").as_bytes())?;
    Ok(())
}

async fn measure_comparison(comparison: Comparison, plan: ComparePlan) -> anyhow::Result<()> {
    system::sluice::build()?;
    let table = compare::run(comparison, plan).await?;
    std::io::stdout().write_all(format!("\n{table}\n").as_bytes())?;
    Ok(())
}

/// Returns `target/bench`, in the target folder that this program was built in.
fn target() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("no target folder")?.join("bench"))
}
