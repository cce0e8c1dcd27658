//! The simulator with 1,000 events and 20% duplicates, as a user starts it: from its start until it has
//! verified that each event is stored once and counted exactly.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use sluice_tests::dirs;
use sluice_tests::process::{Process, tail};
use sluice_tests::program;

use crate::report::figures::{Figures, Group};
use crate::system::servers::Servers;
use crate::system::sluice::Sluice;

/// How long the simulator may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The name of the figure.
pub const SECONDS: &str = "seconds until verified";

/// Runs the simulator against new processes on an empty schema.
pub async fn run(servers: &Servers, name: &str) -> anyhow::Result<Figures> {
    servers.empty_redis().await?;
    let sluice = Sluice::start(servers, name, 1).await?;
    servers.checkpoint().await?;
    let seconds = simulate(&sluice).await;
    let seconds = sluice.finish(seconds).await?;
    servers.drop_schema(name).await?;
    let mut figures = Figures::default();
    figures.add(Group::Seconds, SECONDS, seconds);
    Ok(figures)
}

async fn simulate(sluice: &Sluice) -> anyhow::Result<f64> {
    let log = dirs::fresh("simulate").join("simulate.log");
    let url = format!("http://{}", sluice.address);
    let args = ["simulate", "--url", &url, "--events", "1000", "--duplicate", "0.2", "--verify"];
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let started = Instant::now();
    let mut process = Process::start(&program::find("sluice-publisher"), &args, &[], None, &log);
    loop {
        if let Some(status) = process.exited() {
            ensure!(status.success(), "the simulator ended with {status}:\n{}", tail(&log, 20));
            return Ok(started.elapsed().as_secs_f64());
        }
        if started.elapsed() > TIMEOUT {
            bail!("the simulator has not ended after {TIMEOUT:?}:\n{}", tail(&log, 20));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
