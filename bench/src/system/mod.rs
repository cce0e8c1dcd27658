//! What is measured: servers, our programs, and the services that they replace.

pub mod per_event;
pub mod servers;
pub mod sluice;
