//! The program `sluice-operator`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sluice_operator::crd;
use sluice_operator::settings::{Cli, Command};
use sluice_service::{exit, healthcheck, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init();
    exit::exit(match cli.command {
        Command::Run(settings) => sluice_operator::run(*settings).await,
        Command::Crd => crd::yaml().map_err(Into::into).and_then(|yaml| print(&yaml)),
        Command::Docs => print(&crd::docs::markdown()),
        Command::Healthcheck(settings) => healthcheck::run(&settings.url).await,
    })
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
