//! The operator: makes what an `EventAggregator` asks for, and keeps it so.

pub mod crd;
pub mod settings;

/// Runs until SIGTERM.
///
/// # Errors
/// When the cluster cannot be reached at all.
pub async fn run(_settings: settings::RunSettings) -> anyhow::Result<()> {
    Ok(())
}
