//! Meters: exact aggregates of events over time.
//!
//! A [`Definition`] says what is counted. The [`Recorder`] of a transaction adds up the events that it inserts, and its
//! [`records`](batch::records) are added later to those of other transactions ([`fold`]), by windows of a minute, a quarter of an
//! hour and an hour. An [`Answer`] adds up windows for one question. Nothing here knows a database.
//!
//! ```text
//! event ──Set──▶ Recorder ──encode──▶ row of the batch ──Additions──▶ Window (1, 15, 60 minutes) ──Answer──▶ figures
//! ```

pub mod answer;
pub mod batch;
pub mod decimal;
pub mod definition;
pub mod figure;
pub mod fold;
pub mod group;
mod part;
mod recorder;
mod set;
pub mod window;

pub use answer::{Answer, AnswerLimit};
pub use decimal::Decimal;
pub use definition::{Aggregation, Definition, GroupBy, InvalidDefinition, TimeField};
pub use figure::Figure;
pub use recorder::{Counted, Recorder};
pub use set::{Meter, Set};
pub use window::Window;

/// The largest number of meters, also of those that are being changed.
pub const MAX_METERS: usize = 32;

/// The content of a row is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the figures of a meter are damaged, or a newer version has written them")]
pub struct Damaged;

impl From<postcard::Error> for Damaged {
    fn from(_: postcard::Error) -> Self {
        Self
    }
}
