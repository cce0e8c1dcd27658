//! The benchmark: what Sluice reaches end to end, beside raw COPY of the same rows.
//!
//! ```text
//! servers ── a first block, not counted ── its rows become the bar's
//!    └─ round: COPY │ Sluice with 0, 30 and 90% duplicates    (in turn another first)
//!         └─ each block: empty tables · checkpoint · run · check that it is exact · figures
//! columns of figures ──▶ the table, results.json
//! ```
//!
//! Machines are noisy, and their noise lasts for seconds: so everything is measured once a round,
//! and rates are compared within it.

mod backlog;
mod bar;
mod cpu;
mod end_to_end;
mod events;
mod figures;
mod http;
mod load;
mod machine;
mod pgcopy;
mod plan;
mod progress;
mod report;
mod rounds;
mod servers;
mod sluice;
mod space;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::plan::{Cli, Plan};

#[tokio::main]
async fn main() -> ExitCode {
    let plan = Plan::from(Cli::parse());
    // On a task of its own, since what the tests share panics where it cannot go on.
    let outcome = tokio::spawn(run(plan)).await.context("the run broke off").flatten();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(plan: Plan) -> anyhow::Result<()> {
    sluice::build()?;
    let (columns, run) = rounds::run(&plan).await?;
    let path = results_path()?;
    report::save(&path, &report::json(&columns, run.clone()))?;
    let shown = format!("\n{}\n{}\nwritten to {}\n", machine::lines(&run), report::table(&columns), path.display());
    std::io::stdout().write_all(shown.as_bytes())?;
    Ok(())
}

/// `target/bench/results.json`, beside the folder that we were built in.
fn results_path() -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe()?;
    let target = ours.ancestors().nth(2).context("no target folder")?;
    Ok(target.join("bench/results.json"))
}
