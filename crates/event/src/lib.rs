//! The event contract: which requests a client may send, how they are validated, how an event is
//! identified, and how requests are packed into one stream entry between publisher and aggregator.
//!
//! ```text
//! body ──parse──▶ Event ──entry::PackedRequest ──compressed::pack──▶ entry::PackedEntry ══════ stream
//! stream ══ compressed::expand ──▶ entry::decode ──▶ Event ──Keyer::key──▶ dedup key
//! ```
//!
//! To add a content type, convert its body to [`Event`]s as `parse/lines.rs` does: validation is in `parse/fields.rs`, and both
//! readers of JSON (`parse/quick.rs` and `parse/thorough.rs`) use it. To add a field to an event, extend
//! [`Event`], both readers, and the entry format, which then needs a new version ([`entry`]).

pub mod ambient;
pub mod binary_cloud_event;
pub mod canonical;
pub mod compressed;
pub mod content;
pub mod entry;
mod event;
pub mod ids;
pub mod key;
mod limits;
mod parse;
pub mod pointer;
mod scan;
mod timestamp;
mod topic_template;
mod trace_context;

pub use event::Event;
pub use ids::{BodyHash, EntryId, EventKey, IdempotencyKeyHash, PayloadHash, ReceiptId, RequestId};
pub use key::{DedupField, Keyer};
pub use limits::{Limits, OutOfRange};
pub use parse::{CloudEventForm, ErrorKind, Faults, Format, ParseError, Refused, parse, parse_all, parse_cloud_events};
pub use timestamp::Timestamp;
pub use topic_template::{InvalidTemplate, TopicTemplate};
pub use trace_context::TraceContext;
