//! One event, validated.

use std::borrow::Cow;

use crate::{PayloadHash, Timestamp};

/// One validated event. It borrows from the request body or from the stream entry it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// What the event is about; `default` when the client gave none. Never blank.
    pub topic: Cow<'a, str>,
    /// The client's identifier of the event. Never blank.
    pub event_id: Cow<'a, str>,
    /// When it happened, as the client says; the time of arrival when it does not.
    pub timestamp: Timestamp,
    /// Who sent it, when the client says.
    pub source: Option<Cow<'a, str>>,
    /// JSON text exactly as given, without the white space around it.
    pub payload: Cow<'a, str>,
    /// [`canonical::hash`](crate::canonical::hash) of the payload: equal for equal JSON values.
    pub payload_hash: PayloadHash,
}
