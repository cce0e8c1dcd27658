//! TLS of a resource: which certificates it needs, those that the operator issues, and those of others.

pub mod check;
pub mod ensure;
pub mod plan;
pub mod report;
