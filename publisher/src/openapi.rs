//! The OpenAPI description of the publishing part.

// No value of these types is ever built: they describe what the parser in `sluice-event` accepts,
// which reads a body without building them.
#![allow(dead_code, reason = "the types only describe JSON")]

use serde::Serialize;
use sluice_service::event_errors::EventError;
use sluice_service::problem::Problem;
use utoipa::{OpenApi, ToSchema};

use crate::ingest::Accepted;
use crate::outcome::Outcome;

/// Returns the OpenAPI document of [`router`](crate::router), to be merged into a server's.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Sluice publisher", description = "Takes events; each is stored once and counted exactly."),
    paths(publish),
    components(schemas(PublishedEvent, PublishedEvents, PublishedCloudEvent, Accepted, Outcome, Problem, EventError)),
    tags((name = "publish", description = "Publishing events"))
)]
struct Document;

/// An event to publish. Further members are ignored.
#[derive(Serialize, ToSchema)]
struct PublishedEvent {
    /// Identifies the event within its topic; not blank, at most 512 bytes. `id` is accepted for it.
    #[schema(example = "evt-1")]
    event_id: String,
    /// Any JSON; kept as given.
    #[schema(value_type = Value, example = json!({"value": 100}))]
    payload: (),
    /// Not blank, at most 256 bytes.
    #[schema(default = "default", required = false)]
    topic: String,
    /// RFC 3339 or ISO 8601; without an offset it is UTC. The time of arrival when absent.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    /// Who sent it; at most 512 bytes.
    source: Option<String>,
}

/// A CloudEvent 1.0. Attributes with other names are extensions. In the binary mode the attributes are headers `ce-…`.
#[derive(Serialize, ToSchema)]
struct PublishedCloudEvent {
    #[schema(example = "1.0")]
    specversion: String,
    /// Unique among those of the source.
    id: String,
    /// A reference to a URI.
    source: String,
    #[serde(rename = "type")]
    kind: String,
    /// The time of arrival when absent.
    #[schema(format = DateTime)]
    time: Option<String>,
    subject: Option<String>,
    datacontenttype: Option<String>,
    dataschema: Option<String>,
    /// Any JSON; kept as given.
    #[schema(value_type = Value, required = false)]
    data: (),
    /// Data that is not text, instead of `data`.
    data_base64: Option<String>,
}

/// Events in an object.
#[derive(Serialize, ToSchema)]
struct PublishedEvents {
    /// At least one.
    #[schema(min_items = 1)]
    events: Vec<PublishedEvent>,
}

/// One event, an array of events, or an object that holds them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum PublishRequest {
    /// One event.
    One(PublishedEvent),
    /// An array of events; at least one.
    Many(Vec<PublishedEvent>),
    /// Events in an object.
    Wrapped(PublishedEvents),
}

/// Publishes events.
///
/// All or nothing: one invalid event refuses the request, unless `partial=true`. The answer comes once all of it is on
/// disk. A client that saw no answer repeats the request under the same `Idempotency-Key`.
#[utoipa::path(
    post,
    path = "/publish",
    tag = "publish",
    params(
        ("partial" = Option<bool>, Query,
         description = "`true` accepts the events without an error although others have one, which the answer names"),
        ("wait" = Option<String>, Query, description = "`stored` answers 200 when the events are stored, with what became of them"),
        ("Prefer" = Option<String>, Header, description = "`wait=10` waits for at most ten seconds"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
         description = "Visible ASCII; makes repeating the request safe"),
        ("Content-Encoding" = Option<String>, Header,
         description = "`gzip` or `zstd`; the limits, and the Idempotency-Key, concern the expanded body"),
        ("X-Request-Id" = Option<String>, Header,
         description = "Follows the events to their rows; made when absent or no UUID"),
    ),
    request_body(content(
        (PublishRequest = "application/json"),
        (PublishedEvent = "application/x-ndjson"),
        (PublishedCloudEvent = "application/cloudevents+json"),
        (Vec<PublishedCloudEvent> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 200, description = "The client waited, and the events are stored", body = Accepted),
        (status = 202, description = "The events are on disk", body = Accepted),
        (status = 400, description = "`malformed_json`, `malformed_encoding`, `invalid_idempotency_key`, `invalid_query`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`topic_not_allowed`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body_timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`, `too_many_events`, `payload_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`; see Accept-Encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_event`, `payload_too_deep`, `idempotency_key_reused`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`backlog_full`, `log_memory_full`, `queue_full`; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`log_full`, `log_unavailable`; see Retry-After", body = Problem, content_type = "application/problem+json"),
    )
)]
fn publish() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_requests_answers_and_problems() {
        let document = serde_json::to_value(openapi()).unwrap();
        let publish = &document["paths"]["/publish"]["post"];
        let statuses: Vec<_> = publish["responses"].as_object().unwrap().keys().collect();
        assert_eq!(statuses, ["200", "202", "400", "403", "408", "413", "415", "422", "429", "503"]);
        let problem = &publish["responses"]["422"]["content"]["application/problem+json"]["schema"]["$ref"];
        assert_eq!(problem, "#/components/schemas/Problem");
        let schemas = &document["components"]["schemas"];
        for name in ["PublishRequest", "PublishedEvent", "PublishedEvents", "Accepted", "Problem", "EventError"] {
            assert!(schemas[name].is_object(), "{name} is missing: {schemas}");
        }
        assert_eq!(schemas["PublishedEvent"]["required"], serde_json::json!(["event_id", "payload"]));
        assert_eq!(schemas["PublishRequest"]["oneOf"].as_array().map(Vec::len), Some(3), "{schemas}");
    }
}
