//! What is measured only if it is asked for, to choose between variants: each in each round, and a table of the medians.

mod measured;
mod meters;
mod row_cost;
mod scaling;
mod server_settings;
mod traces;

use crate::plan::{ComparePlan, Comparison};

/// Measures one comparison. Returns a table.
///
/// # Errors
/// If something cannot be measured, or is not stored exactly.
pub async fn run(comparison: Comparison, plan: ComparePlan) -> anyhow::Result<String> {
    match comparison {
        Comparison::RowCost => row_cost::run(plan).await,
        Comparison::Meters => meters::run(plan).await,
        Comparison::Scaling => scaling::run(plan).await,
        Comparison::ServerSettings => server_settings::run(plan).await,
        Comparison::Traces => traces::run(plan).await,
    }
}
