//! The upgrade of a managed PostgreSQL to a newer major version.
//!
//! The new server is started beside the one that serves, in a StatefulSet and with a volume of its own. Then the
//! aggregators stop, a Job copies all rows in one transaction and compares them, the volume of the new server is marked as
//! complete, and the aggregators start again. That mark is the only thing that decides which server serves: until it is
//! there, everything can go back, and from then on the former server is stopped before an aggregator starts. It is on the
//! volume itself, so that it stays with the data when the resource is deleted and created again.

mod act;
mod asked;
mod conclusion;
pub mod estimate;
pub mod freeze;
pub mod measured;
pub mod plan;
pub mod servers;
mod stage;

pub use act::{advance, withdraw};
pub use asked::{Asked, Upgraded};
pub use conclusion::{Conclusion, conclude};
pub use servers::{Serving, serving};
