//! The program `sluice-aggregator`.

use std::process::ExitCode;

use clap::Parser;
use sluice_aggregator::settings::{Cli, Command};
use sluice_aggregator::{run, standalone};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = cli.check() {
        error.exit();
    }
    sluice_service::telemetry::init();
    let result = match cli.command {
        Command::Run(settings) => run::run(*settings).await,
        Command::Migrate(postgres) => run::migrate(&postgres).await,
        Command::Standalone(settings) => standalone::standalone(*settings).await,
        Command::Healthcheck(settings) => sluice_service::healthcheck::run(&settings.url).await,
    };
    sluice_service::exit::exit(result)
}
