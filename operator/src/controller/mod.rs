//! The controller of `EventAggregator` resources: data → retention → fetch → validate → secrets →
//! build → apply → status → write_status. Each step is a file and takes the result of the step before it as an
//! argument, so that no step can be left out. [`reconcile`] runs them in order; `watch` decides when.

mod additions;
pub mod apply;
pub mod auth;
mod backup;
pub mod build;
mod capacity;
pub mod changes;
mod cidr;
pub mod cloud_native_pg;
mod connections;
mod context;
mod data;
mod debounce;
mod drift;
mod durable;
pub mod error;
mod external_tls;
pub mod fetch;
mod field_managers;
pub mod hibernation;
mod hold_servers;
mod image_plan;
pub mod job_end;
mod last_status;
pub mod optional;
mod order;
mod owned_secret;
mod ownership;
pub mod plan;
pub mod pod_problems;
pub mod progress;
mod publisher_autoscaling;
mod reader;
pub mod reason;
mod reconcile;
mod retention;
pub mod rollout;
pub mod secrets;
pub mod server_restarts;
mod server_url;
pub mod status;
pub mod tls;
mod topic_schemas;
mod unready;
pub mod upgrade;
pub mod validate;
mod volume_plan;
mod volumes;
mod watch;
pub mod watches;
mod write_status;

pub use context::Context;
pub use reconcile::{after_failure, reconcile};
pub use watch::{Slots, Wake, watch};
