//! Measures from outside what processes and servers use: CPU time, memory and storage.

pub mod backlog;
pub mod cpu;
pub mod memory;
pub mod space;
