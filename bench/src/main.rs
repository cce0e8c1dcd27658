//! The benchmark: what Sluice reaches, beside raw COPY of the same rows, and beside services of the
//! kind that it replaces.
//!
//! ```text
//! servers ── a first block, not counted ── its rows become those of COPY
//!    ├─ rounds: COPY │ Sluice with 0, 30, 90% duplicates │ more aggregators │ services │ …   (blocks)
//!    │    └─ each block: empty tables · checkpoint · run · check that it is exact · figures
//!    ├─ latency at shares of the rate that was reached                                       (latency)
//!    └─ growth of the tables                                                                 (growth)
//! figures ──▶ tables, results.json                                                           (report)
//! ```
//!
//! Machines are noisy, and their noise lasts for seconds: so everything is measured once a round,
//! and rates are compared within it.

mod blocks;
mod growth;
mod latency;
mod load;
mod plan;
mod progress;
mod report;
mod run;
mod sections;
mod system;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::plan::{Cli, Plan};
use crate::report::json;

#[tokio::main]
async fn main() -> ExitCode {
    let plan = Plan::from(Cli::parse());
    // On a task of its own, since what the tests share panics where it cannot go on.
    let outcome = tokio::spawn(run_and_report(plan)).await.context("the run broke off").flatten();
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
    let written = format!("\n{report}\nwritten to {} and, for programs, results.json beside it\n", path.display());
    std::io::stdout().write_all(written.as_bytes())?;
    Ok(())
}

/// `target/bench`, beside the folder that we were built in.
fn target() -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe()?;
    Ok(ours.ancestors().nth(2).context("no target folder")?.join("bench"))
}
