//! The program `kubectl-sluice`, which `kubectl sluice` runs.

use std::io::Write;

use clap::Parser;
use kubectl_sluice::cli::{Cli, run};
use kubectl_sluice::{Context, end};

#[tokio::main]
async fn main() -> ! {
    let cli = Cli::parse();
    sluice_service::tls::install_provider();
    let context = Context::new(cli.global).await;
    let (code, message) = end(run(cli.command, &context, &mut std::io::stdout()).await);
    if let Some(message) = message {
        let _ = writeln!(std::io::stderr(), "{message}");
    }
    // Threads that read standard input or resolve names would hold up the end of the runtime.
    std::process::exit(i32::from(code))
}
