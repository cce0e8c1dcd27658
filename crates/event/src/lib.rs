//! The event contract: what a client may send, how it is validated, what identifies an event,
//! and how requests travel packed in one stream entry from the publisher to the aggregator.
//!
//! ```text
//! body ──parse──▶ Event ──entry::PackedRequest ──compressed::pack──▶ entry::PackedEntry ══════ stream
//! stream ══ compressed::expand ──▶ entry::decode ──▶ Event ──Keyer::key──▶ dedup key
//! ```

pub mod canonical;
pub mod compressed;
pub mod entry;
mod event;
pub mod ids;
pub mod key;
mod limits;
mod parse;
mod scan;
mod timestamp;

pub use event::Event;
pub use ids::{BodyHash, EntryId, EventKey, IdempotencyKeyHash, PayloadHash, ReceiptId, RequestId};
pub use key::{DedupField, Keyer};
pub use limits::Limits;
pub use parse::{ErrorKind, ParseError, parse};
pub use timestamp::Timestamp;
