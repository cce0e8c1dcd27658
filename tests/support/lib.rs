//! The foundation of the test suites: real servers on free ports in temporary directories, our programs started
//! as a user starts them, events with known ids, and the comparison of the events that were sent with those that
//! are stored.
//!
//! ```text
//! Setup ──start──▶ System ── Redis, Postgres, publisher, aggregators │ standalone
//! Load  ──publishes known ids──▶ System.base          Watch ──every 100 ms──▶ its database
//!   └──stop──▶ Sent ──ledger::final_comparison──▶ rows = distinct ids, counters to the event
//! Follower ──reads the feed──▶ System.base ──finish──▶ every row, in the order of the feed
//! ```
//!
//! Nothing here depends on the code of the programs: they are observed from outside only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on its output what it saw"
)]

pub mod audit;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod dirs;
pub mod event_stream;
pub mod follower;
pub mod ledger;
pub mod load;
pub mod lock;
pub mod meters;
pub mod metrics;
pub mod patroni;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod program;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod s3;
pub mod sentinels;
pub mod setup;
pub mod span;
pub mod store;
pub mod stream;
pub mod system;
pub mod wait;
pub mod watch;

pub use client::{Answer, Client};
pub use follower::Follower;
pub use ledger::Tally;
pub use load::{Load, LoadOptions, Sent};
pub use lock::TableLock;
pub use setup::Setup;
pub use store::{Snapshot, StoreReader};
pub use system::{Backend, System};
pub use wait::wait_until;
pub use watch::Watch;
