//! The OpenAPI description of the publishing part.

// No value of these types is ever built: they describe what the parser in `sluice-event` accepts,
// which reads a body without building them.
#![allow(dead_code, reason = "the types only describe JSON")]

use serde::Serialize;
use sluice_service::code::Code;
use sluice_service::event_errors::EventError;
use sluice_service::problem::Problem;
use sluice_service::problem_responses;
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
    /// Identifies the event within its topic; not blank, at most 512 bytes of UTF-8. `id` is accepted in its place.
    #[schema(example = "evt-1", min_length = 1, max_length = 512, pattern = r"^[^\x00]*[^\x00\s][^\x00]*$")]
    event_id: String,
    /// Any JSON; kept as given.
    #[schema(value_type = Value, example = json!({"value": 100}))]
    payload: (),
    /// Not blank, at most 256 bytes of UTF-8.
    #[schema(
        example = "orders",
        default = "default",
        required = false,
        min_length = 1,
        max_length = 256,
        pattern = r"^[^\x00]*[^\x00\s][^\x00]*$"
    )]
    topic: String,
    /// RFC 3339 or ISO 8601; without an offset it is UTC. The time of arrival when absent.
    #[schema(example = "2026-01-31T12:00:00Z", format = DateTime, nullable = false)]
    timestamp: Option<String>,
    /// Who sent it; at most 512 bytes of UTF-8.
    #[schema(example = "shop", max_length = 512, pattern = r"^[^\x00]*$")]
    source: Option<String>,
}

/// A CloudEvent 1.0. Attributes with other names are extensions. In the binary mode the attributes are headers `ce-…`.
#[derive(Serialize, ToSchema)]
struct PublishedCloudEvent {
    #[schema(example = "1.0", pattern = r"^1\.0$")]
    specversion: String,
    /// Unique among those of the source. At most 512 bytes of UTF-8.
    #[schema(example = "evt-1", max_length = 512, pattern = r"^[^\x00]*[^\x00\s][^\x00]*$")]
    id: String,
    /// A reference to a URI. At most 512 bytes of UTF-8.
    #[schema(example = "/shop", max_length = 512, pattern = r"^[^\x00]*[^\x00\s][^\x00]*$")]
    source: String,
    /// The topic, unless the publisher makes it in another way. At most 256 bytes of UTF-8.
    #[serde(rename = "type")]
    #[schema(example = "orders", max_length = 256, pattern = r"^[^\x00]*[^\x00\s][^\x00]*$")]
    kind: String,
    /// The time of arrival when absent.
    #[schema(example = "2026-01-31T12:00:00Z", format = DateTime)]
    time: Option<String>,
    #[schema(pattern = r"^[^\x00]*[^\x00\s][^\x00]*$")]
    subject: Option<String>,
    #[schema(example = "application/json", pattern = r"^[^\x00]*[^\x00\s][^\x00]*$")]
    datacontenttype: Option<String>,
    #[schema(pattern = r"^[^\x00]*[^\x00\s][^\x00]*$")]
    dataschema: Option<String>,
    /// Any JSON; kept as given.
    #[schema(value_type = Value, required = false, example = json!({"value": 100}))]
    data: (),
    /// Data that is not text, instead of `data`.
    #[schema(pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$")]
    data_base64: Option<String>,
}

/// Events in an object.
#[derive(Serialize, ToSchema)]
struct PublishedEvents {
    /// At least one.
    #[schema(min_items = 1, max_items = 10000)]
    events: Vec<PublishedEvent>,
}

/// An array of events.
#[derive(Serialize, ToSchema)]
#[schema(min_items = 1, max_items = 10000)]
struct SeveralEvents(Vec<PublishedEvent>);

/// One event, an array of events, or an object that holds them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum PublishRequest {
    /// One event.
    One(PublishedEvent),
    /// An array of events; at least one.
    Many(#[schema(inline)] SeveralEvents),
    /// Events in an object.
    Wrapped(PublishedEvents),
}

/// Until when a client waits.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum WaitUntil {
    Stored,
}

/// The response to a request whose client waited until its events were stored.
#[derive(Serialize, ToSchema)]
struct StoredRequest {
    #[serde(flatten)]
    request: Accepted,
    #[serde(flatten)]
    outcome: Outcome,
}

/// How a body is compressed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ContentEncoding {
    Gzip,
    Zstd,
    Identity,
}

problem_responses! {
    /// The problems of [`publish`].
    PublishProblems: [
        Code::InvalidQuery, Code::InvalidIdempotencyKey, Code::MalformedJson, Code::MalformedEncoding,
        Code::TopicNotAllowed, Code::BodyTimeout, Code::BodyTooLarge, Code::TooManyEvents, Code::PayloadTooLarge,
        Code::UnsupportedMediaType, Code::InvalidEvent, Code::SchemaViolation, Code::PayloadTooDeep, Code::IdempotencyKeyReused,
        Code::BacklogFull, Code::LogMemoryFull, Code::QueueFull, Code::LogFull, Code::LogUnavailable,
    ];
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
        ("wait" = inline(Option<WaitUntil>), Query, description = "`stored` answers 200 when the events are stored, with what became of them"),
        ("Prefer" = Option<String>, Header, example = "wait=10", description = "`wait=10` waits for at most ten seconds"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
         example = "0190b5a0-4d4b-7cc2-b7f0-6a4de2f9c0aa", description = "Visible ASCII; makes repeating the request safe"),
        ("Content-Encoding" = inline(Option<ContentEncoding>), Header,
         description = "`gzip` or `zstd`; the limits, and the Idempotency-Key, concern the expanded body"),
        ("X-Request-Id" = Option<String>, Header,
         description = "Follows the events to their rows; made when absent or no UUID"),
    ),
    request_body(content(
        (PublishRequest = "application/json", examples(
            ("one" = (summary = "One event", value = json!({"topic": "orders", "event_id": "evt-1", "source": "shop", "payload": {"value": 100}}))),
            ("several" = (summary = "An array of events", value = json!([{"event_id": "evt-1", "payload": 1}, {"event_id": "evt-2", "payload": null}]))),
        )),
        (PublishedEvent = "application/x-ndjson", example = json!({"event_id": "evt-1", "payload": {"value": 100}})),
        (PublishedCloudEvent = "application/cloudevents+json"),
        (Vec<PublishedCloudEvent> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 200, description = "The client waited, and the events are stored", body = StoredRequest,
            headers(("Preference-Applied" = Option<String>, description = "`wait`, if the client asked for it by `Prefer`")),
            example = json!({"status": "stored", "count": 2, "stored": 1, "duplicates": 1, "conflicts": 0, "dead_lettered": 0})),
        (status = 202, description = "The events are on disk", body = Accepted, example = json!({"status": "accepted", "count": 1})),
        PublishProblems,
    )
)]
fn publish() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_requests_answers_and_problems() {
        let mut document = serde_json::to_value(openapi()).unwrap();
        sluice_service::openapi::complete(&mut document, |_, _| true);
        let publish = &document["paths"]["/publish"]["post"];
        let statuses: Vec<_> = publish["responses"].as_object().unwrap().keys().collect();
        let expected = [
            "200", "202", "400", "401", "403", "404", "405", "408", "413", "414", "415", "422", "429", "431", "500",
            "503",
        ];
        assert_eq!(statuses, expected);
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
