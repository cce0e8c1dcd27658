//! An event as it is returned.

use serde::Serialize;
use serde_json::value::RawValue;
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::problems::store_problem;
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
    source: Option<String>,
    /// As sent: any JSON.
    #[schema(value_type = Value)]
    payload: Box<RawValue>,
    /// When the publisher received it.
    #[schema(format = DateTime)]
    received_at: String,
    /// The `X-Request-Id` of the request that published it.
    request_id: String,
}

impl TryFrom<StoredEvent> for Event {
    type Error = Problem;

    fn try_from(event: StoredEvent) -> Result<Self, Problem> {
        let payload = RawValue::from_string(event.payload).map_err(|error| {
            store_problem(sluice_store::StoreError::Failed(format!("a stored payload is not JSON: {error}")))
        })?;
        Ok(Self {
            topic: event.topic,
            event_id: event.event_id,
            timestamp: event.timestamp.to_string(),
            source: event.source,
            payload,
            received_at: event.received_at.to_string(),
            request_id: event.request_id.to_string(),
        })
    }
}
