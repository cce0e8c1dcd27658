//! The program `sluice-publisher`.

use std::process::ExitCode;

use clap::Parser;
use sluice_publisher::serve;
use sluice_publisher::settings::{Cli, Command};
use sluice_service::{healthcheck, program, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init();
    program::exit(match cli.command {
        Command::Serve(settings) => serve::run(*settings).await,
        Command::Healthcheck(settings) => healthcheck::run(&settings.url).await,
    })
}
