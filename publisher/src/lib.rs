//! The publisher: takes events over HTTP and answers once the log has them on disk.
//!
//! ```text
//! POST /publish ──ingest──▶ packed request ──coalesce──▶ packed entry ──▶ log
//! anything else ──forward──▶ the aggregators
//! ```
//!
//! The library is what `standalone` serves too, over another log; the program `sluice-publisher`
//! adds forwarding, and the simulator.

mod append;
mod coalesce;
mod forward;
mod headers;
mod ingest;
pub mod metrics;
mod openapi;
mod pack;
mod pressure;
mod publisher;
mod receive;
pub mod serve;
pub mod settings;
pub mod simulate;

pub use ingest::{Accepted, router};
pub use openapi::openapi;
pub use publisher::Publisher;
