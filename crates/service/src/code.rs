//! The codes of all problems that the servers of this workspace return: a closed set.
//! `docs/errors.md` has a section for each; a test compares the two in both directions.

use std::fmt;

use axum::http::StatusCode;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Declares [`Code`], so that a code, its text and its status are on one line and none can be missing from
/// [`Code::ALL`].
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:ident;)*) => {
        /// Identifies a problem. Clients depend on the texts of the codes, so a text never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Code {
            /// All codes, in the order of their statuses.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the code's text, as in a problem document and in metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Returns what the code says, as a sentence for the OpenAPI document: without the part of the API that it
            /// belongs to, because the document has it beside its operations.
            pub fn meaning(self) -> &'static str {
                let text = match self {
                    $(Self::$name => concat!($($doc),+),)*
                };
                match text.split_once(": ") {
                    Some((part, meaning)) if part.ends_with('`') || part == " Query API" => meaning,
                    _ => text.trim_start(),
                }
            }

            /// Returns the HTTP status that goes with this code. Only [`Code::BadRequest`] and
            /// [`Code::Internal`] may come with another status of the same class, when a handler
            /// returned one without a body.
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }
        }
    };
}

codes! {
    /// The request is refused for a reason that has no separate code.
    BadRequest = "bad_request", BAD_REQUEST;
    /// `POST /publish`: an `Idempotency-Key` is empty, too long, given twice or not visible ASCII.
    InvalidIdempotencyKey = "invalid_idempotency_key", BAD_REQUEST;
    /// Query API: a query parameter is unknown, given twice or has an invalid value.
    InvalidQuery = "invalid_query", BAD_REQUEST;
    /// The body is not JSON, is not UTF-8, or ends early.
    MalformedJson = "malformed_json", BAD_REQUEST;
    /// `POST /publish`: the body is not what its `Content-Encoding` says.
    MalformedEncoding = "malformed_encoding", BAD_REQUEST;
    /// The request has no token, or one that is not accepted.
    Unauthorized = "unauthorized", UNAUTHORIZED;
    /// The token does not have the scope that the route needs.
    MissingScope = "missing_scope", FORBIDDEN;
    /// The token is bounded by topics, and the request is about another one.
    TopicNotAllowed = "topic_not_allowed", FORBIDDEN;
    /// A page of another site sent a request that changes something.
    CrossSiteRequest = "cross_site_request", FORBIDDEN;
    /// Nothing is served at this path, or the named event or dead letter does not exist.
    NotFound = "not_found", NOT_FOUND;
    /// The path exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED;
    /// The body did not arrive in time.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT;
    /// The request's headers did not arrive in time.
    HeaderTimeout = "header_timeout", REQUEST_TIMEOUT;
    /// Replay of a dead letter: the store refused its events again.
    StillRefused = "still_refused", CONFLICT;
    /// `PUT /meters/{name}`: there are as many meters as there may be.
    TooManyMeters = "too_many_meters", CONFLICT;
    /// `PUT /topics/{topic}/schema`: as many topics have a schema as may have one, or all schemas together are too large.
    TooManySchemas = "too_many_schemas", CONFLICT;
    /// The body has too many bytes.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE;
    /// `POST /publish`: a payload has too many bytes.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE;
    /// `POST /publish`: the request has too many events.
    TooManyEvents = "too_many_events", PAYLOAD_TOO_LARGE;
    /// `POST /publish`: the body is not declared as JSON in UTF-8, or has another content coding than gzip or zstd.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE;
    /// `POST /publish`: the `Idempotency-Key` was used with another body before.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY;
    /// `PUT /meters/{name}`: the definition of a meter is missing a field or has an invalid one.
    InvalidMeter = "invalid_meter", UNPROCESSABLE_ENTITY;
    /// `PUT /topics/{topic}/schema`: the schema, or another part of its definition, cannot be used.
    InvalidSchema = "invalid_schema", UNPROCESSABLE_ENTITY;
    /// `POST /publish`: an event is missing a field or has an invalid one.
    InvalidEvent = "invalid_event", UNPROCESSABLE_ENTITY;
    /// `POST /publish`: a payload does not match the schema of its topic.
    SchemaViolation = "schema_violation", UNPROCESSABLE_ENTITY;
    /// `POST /publish`: a payload has too many nested levels.
    PayloadTooDeep = "payload_too_deep", UNPROCESSABLE_ENTITY;
    /// `POST /publish`: too many events are accepted and not stored yet.
    BacklogFull = "backlog_full", TOO_MANY_REQUESTS;
    /// `POST /publish`: the memory of the log is too full.
    LogMemoryFull = "log_memory_full", TOO_MANY_REQUESTS;
    /// Query API: too many large answers are being read at the same time.
    TooManyQueries = "too_many_queries", TOO_MANY_REQUESTS;
    /// The subject of the token sends more requests or events in a second than it may.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS;
    /// `POST /publish`: too many requests wait for the log.
    QueueFull = "queue_full", TOO_MANY_REQUESTS;
    /// The server failed; its log has the cause.
    Internal = "internal", INTERNAL_SERVER_ERROR;
    /// Query API: what was asked for is damaged on the disk of the store.
    StoreDamaged = "store_damaged", INTERNAL_SERVER_ERROR;
    /// A JWT cannot be verified: the keys of the issuer were not fetched yet.
    KeysUnavailable = "keys_unavailable", SERVICE_UNAVAILABLE;
    /// `POST /publish`: the disk of the log is full.
    LogFull = "log_full", SERVICE_UNAVAILABLE;
    /// `POST /publish`: the log did not confirm the request.
    LogUnavailable = "log_unavailable", SERVICE_UNAVAILABLE;
    /// `GET /readyz`: the server cannot do its work at the moment.
    NotReady = "not_ready", SERVICE_UNAVAILABLE;
    /// The publisher cannot reach an aggregator to forward the request to.
    QueryUnavailable = "query_unavailable", SERVICE_UNAVAILABLE;
    /// Query API: the store does not answer.
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE;
    /// Query API: the query took too long and was ended.
    QueryTooSlow = "query_too_slow", GATEWAY_TIMEOUT;
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .description(Some("Identifies a problem, for programs. The text of a code never changes."))
            .into()
    }
}

impl ToSchema for Code {}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_codes_have_the_same_text() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
    }

    #[test]
    fn what_a_code_says_is_a_sentence_without_the_part_of_the_api() {
        assert_eq!(Code::InvalidEvent.meaning(), "an event is missing a field or has an invalid one.");
        assert_eq!(Code::StoreUnavailable.meaning(), "the store does not answer.");
        assert_eq!(Code::StillRefused.meaning(), "Replay of a dead letter: the store refused its events again.");
        for code in Code::ALL {
            assert!(code.meaning().ends_with('.') && !code.meaning().starts_with([' ', '`']), "{code}");
        }
    }

    #[test]
    fn codes_are_listed_by_status() {
        assert!(Code::ALL.is_sorted_by_key(|code| code.status().as_u16()));
    }
}
