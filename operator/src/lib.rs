//! The operator: makes what an `EventAggregator` asks for, and keeps it so.

pub mod autoscale;
pub mod controller;
pub mod crd;
pub mod lease;
pub mod observe;
pub mod programs;
pub mod quantity;
pub mod requests;
mod run;
pub mod services;
pub mod settings;

pub use run::run;
