//! What the processes and the servers spend, seen from outside.

pub mod backlog;
pub mod cpu;
pub mod memory;
pub mod space;
