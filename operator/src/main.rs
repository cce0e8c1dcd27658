//! The program `sluice-operator`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sluice_operator::settings::{Cli, Command};
use sluice_operator::{alerts, crd};
use sluice_service::{exit, healthcheck, telemetry};

/// The number of threads that work. The operator mostly waits for the API server. Without a limit there is one for each
/// core of the node, and the allocator keeps memory for each of them.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => exit::exit(Err(error.into())),
    }
}

async fn run(cli: Cli) -> ExitCode {
    telemetry::init();
    exit::exit(match cli.command {
        Command::Run(settings) => sluice_operator::run(*settings).await,
        Command::Crd => crd::yaml().map_err(Into::into).and_then(|yaml| print(&yaml)),
        Command::Rules(settings) => {
            let made = alerts::file(settings.set, &settings.runbooks.runbook_url);
            made.map_err(Into::into).and_then(|yaml| print(&yaml))
        }
        Command::Docs => print(&crd::docs::markdown()),
        Command::Healthcheck(settings) => healthcheck::run(&settings.url).await,
    })
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
