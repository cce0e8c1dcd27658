//! The operator: creates the objects that an `EventAggregator` describes, and repairs drift.

pub mod alerts;
pub mod api_request_metrics;
pub mod autoscale;
pub mod certificates;
pub mod contract;
pub mod controller;
pub mod crd;
pub mod installed_schema;
pub mod lease;
pub mod metrics;
pub mod observe;
pub mod program_client;
pub mod quantity;
pub mod resource_metrics;
mod run;
pub mod settings;
pub mod trust;

pub use run::run;
