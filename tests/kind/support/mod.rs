//! Shared parts of the tests on the cluster.
//!
//! ```text
//! Trial ── namespace, resource, Ready ──▶ Load (a Job inside the cluster, known ids)
//!   │ ports to Redis and Postgres, through the API server     │ the fault, with entries in flight
//!   └──────────── end: rows, counters and stream compared ◀───┘──▶ a row in the table of tallies
//! ```

pub mod cluster;
pub mod definitions;
pub mod dump;
pub mod durability;
pub mod flow;
pub mod forward;
pub mod held;
pub mod install;
pub mod load;
pub mod node;
pub mod objects;
pub mod operators;
pub mod server;
pub mod tally;
pub mod tokens;
pub mod trial;
