//! Meters in a store: exact aggregates of events over time.
//!
//! The transaction that inserts events also writes what meters count of them, as one row in `meter_batches`. Every few seconds one
//! replica [adds](fold) such rows to those of windows, in one transaction, so that the sum of both never changes by it. Whoever
//! [reads](reading) adds up both, in one snapshot.
//!
//! **A new meter begins at an exact cut.** It is [added](declare) while no batch runs. Each transaction reads the version of the
//! meters after it has the lock that this waits for, so all replicas count it from the first transaction after the cut on. The
//! events before the cut are counted by a [backfill](backfill), from their rows, in chunks whose progress is in the same
//! transaction as what they count. Retention removes no row that a backfill has not counted.
//!
//! **A changed meter** is another one with the same name. The former one is shown until the backfill of the new one is complete,
//! and is then removed. What transactions and rows have of a removed meter is left out when it is added up.
//!
//! Both databases implement [`MeterTables`]; all else is written once.

mod backfill;
mod cache;
mod declare;
mod fold;
mod forget;
mod maintain;
mod reading;
mod row;
mod status;
mod tables;

pub(crate) use cache::MeterSets;
pub(crate) use declare::{delete, put};
pub(crate) use forget::forget;
pub(crate) use maintain::maintain;
pub(crate) use reading::{Reading, add_batch, add_window};
pub(crate) use row::{COLUMNS, MeterRow, meters_of};
pub use status::{MeterFigures, MeterReading, MeterStatus, PutMeter, StoredMeter};
pub(crate) use tables::{Cut, MeterTables};
