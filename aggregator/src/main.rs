//! The program `sluice-aggregator`.

use std::process::ExitCode;

use clap::Parser;
use sluice_aggregator::settings::{Cli, Command, HealthcheckSettings};
use sluice_aggregator::{audit, backup, run, standalone};

async fn of_health(settings: &HealthcheckSettings) -> anyhow::Result<()> {
    sluice_service::healthcheck::run_with(&settings.url, &settings.https.tls(), settings.token.headers()?).await
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = cli.check() {
        error.exit();
    }
    sluice_service::telemetry::init();
    sluice_service::tls::install_provider();
    let result = match cli.command {
        Command::Run(settings) => run::run(*settings).await,
        Command::Migrate(postgres) => run::migrate(&postgres).await,
        Command::Standalone(settings) => standalone::standalone(*settings).await,
        Command::Audit(settings) => match audit::audit(&settings).await {
            Ok(verdict) => return ExitCode::from(verdict.exit_code()),
            Err(error) => {
                // Neither proved nor disproved: 1 would say that the numbers differ.
                tracing::error!("cannot audit: {error:#}");
                return ExitCode::from(audit::Verdict::Unknown.exit_code());
            }
        },
        Command::Backup(command) => backup::backup(&command).await,
        Command::Healthcheck(settings) => of_health(&settings).await,
    };
    sluice_service::exit::exit(result)
}
