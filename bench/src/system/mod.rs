//! The systems that are measured: the servers, Sluice's programs, and the services that they replace.

pub mod bare;
pub mod credentials;
pub mod per_event;
pub mod servers;
pub mod sluice;
pub mod tables;
