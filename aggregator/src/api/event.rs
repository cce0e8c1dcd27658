//! An event as it is returned.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::metrics;
use sluice_store::StoredEvent;

/// An event as stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    /// As sent, or `default`.
    #[schema(example = "orders")]
    topic: String,
    /// As sent.
    #[schema(example = "evt-1")]
    event_id: String,
    /// RFC 3339 in UTC, to the microsecond.
    #[schema(format = DateTime)]
    timestamp: String,
    /// As sent.
    #[schema(example = "shop", required)]
    source: Option<String>,
    /// As sent: any JSON. It is missing if the event is damaged.
    #[schema(value_type = Value, example = json!({"value": 100}), required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    /// When the publisher received it.
    #[schema(format = DateTime)]
    received_at: String,
    /// The `X-Request-Id` of the request that published it.
    #[schema(format = "uuid")]
    request_id: String,
    /// True if the stored event is damaged: bytes of it changed on the disk of the store. Then none of the other
    /// members can be relied on. Missing otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    damaged: bool,
    /// True if payload and source were erased: both are null. Missing otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    erased: bool,
}

impl Event {
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn event_id(&self) -> &str {
        &self.event_id
    }

    pub(super) fn timestamp(&self) -> &str {
        &self.timestamp
    }

    pub(super) fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Returns the payload; `None` if the event is damaged.
    pub(super) fn payload(&self) -> Option<&RawValue> {
        self.payload.as_deref()
    }

    /// Returns whether the stored event is damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }
}

impl From<StoredEvent> for Event {
    fn from(event: StoredEvent) -> Self {
        let payload = if event.damaged { None } else { RawValue::from_string(event.payload).ok() };
        let damaged = payload.is_none();
        if damaged {
            metrics::damaged_row(event.seq, &event.topic, &event.event_id);
        }
        Self {
            damaged,
            erased: event.erased,
            topic: event.topic,
            event_id: event.event_id,
            timestamp: event.timestamp.to_string(),
            source: event.source,
            payload,
            received_at: event.received_at.to_string(),
            request_id: event.request_id.to_string(),
        }
    }
}
