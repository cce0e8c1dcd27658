//! Backups of a managed PostgreSQL: what the resource asks for, what the Jobs have done, and restores.

mod asked;
mod conclusion;
mod cron;
mod done;
mod restore;

pub use asked::{backup, check_schedule, restore};
pub use conclusion::{Conclusion, conclude};
pub use done::Standing;
pub use restore::{begin, waits_for};
