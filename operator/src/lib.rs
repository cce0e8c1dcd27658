//! The operator: makes what an `EventAggregator` asks for, and keeps it so.

pub mod autoscale;
pub mod controller;
pub mod crd;
pub mod quantity;
pub mod services;
pub mod settings;

/// Runs until SIGTERM.
///
/// # Errors
/// When the cluster cannot be reached at all.
pub async fn run(_settings: settings::RunSettings) -> anyhow::Result<()> {
    Ok(())
}
