//! A PostgreSQL that CloudNativePG runs: what its Cluster shall be, and what it is.

pub mod plan;
mod standing;
mod validate;

pub use standing::{count, standing};
pub use validate::validate;
