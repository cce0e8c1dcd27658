//! Where the programs of a resource send spans.

pub mod plan;
pub mod validate;
