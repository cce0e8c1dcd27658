//! One event, validated.

use std::borrow::Cow;

use crate::{PayloadHash, Timestamp};

/// One validated event. It borrows from the request body or from the stream entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The topic; `default` when the client sent none. Never blank.
    pub topic: Cow<'a, str>,
    /// The client's identifier of the event. Never blank.
    pub event_id: Cow<'a, str>,
    /// When it happened according to the client; the time of arrival when the client did not say.
    pub timestamp: Timestamp,
    /// The sender's name, when the client sent one.
    pub source: Option<Cow<'a, str>>,
    /// JSON text exactly as sent, without the white space around it.
    pub payload: Cow<'a, str>,
    /// [`canonical::hash`](crate::canonical::hash) of the payload: equal for equal JSON values.
    pub payload_hash: PayloadHash,
}
