//! The program `sluice-publisher`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use sluice_publisher::settings::{Cli, Command};
use sluice_publisher::{serve, simulate, token};
use sluice_service::{exit, healthcheck, telemetry, tls};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = cli.check() {
        error.exit();
    }
    telemetry::init();
    tls::install_provider();
    exit::exit(start(cli.command))
}

fn start(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(run(command));
    // A read from standard input cannot be cancelled: do not wait for somebody to press Enter.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(settings) => serve::run(*settings).await,
        Command::Simulate(settings) => simulate::run(*settings).await,
        Command::Token(settings) => token::run(&settings),
        Command::Healthcheck(settings) => {
            healthcheck::run_with(&settings.url, &settings.https.tls(), settings.token.headers()?).await
        }
    }
}
