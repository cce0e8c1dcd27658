//! Errors as RFC 9457 problem details, `application/problem+json`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::code::Code;
use crate::event_errors::{EventError, EventErrors};

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";
const NOTHING_SERVED: &str = "nothing is served at this path";

/// What is wrong with a request, or why the server could not serve it.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: Code,
    /// Shown to the client.
    detail: Box<str>,
    index: Option<usize>,
    place: Option<Box<Place>>,
    errors: Option<Box<EventErrors>>,
    /// Only logged, because the client must not see it.
    cause: Option<Box<str>>,
    retry_after: Option<Duration>,
    header: Option<Header>,
}

/// The place of a problem in a request.
#[derive(Debug, Clone, Default)]
struct Place {
    field: Option<Box<str>>,
    pointer: Option<Box<str>>,
}

/// A header of the response that says what the client can do.
#[derive(Debug, Clone, Copy)]
enum Header {
    /// `WWW-Authenticate`: how a request must be authenticated.
    Challenge(&'static str),
    /// `Accept-Encoding`: the content codings that a body may have.
    AcceptEncoding(&'static str),
}

/// A problem details document.
#[derive(Serialize, ToSchema)]
struct Document<'p> {
    /// `urn:sluice:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:sluice:problem:invalid_event", pattern = "^urn:sluice:problem:[a-z_]+$")]
    uri: String,
    /// The name of the status.
    #[schema(example = "Unprocessable Entity")]
    title: &'p str,
    /// The HTTP status.
    #[schema(example = 422, minimum = 400, maximum = 599)]
    status: u16,
    /// The code of the problem, for programs; the text of a code never changes.
    #[schema(value_type = Code)]
    code: &'p str,
    /// What is wrong, as text for a person.
    detail: &'p str,
    /// The index of the event in the request, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    index: Option<usize>,
    /// The field with the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'p str>,
    /// The place in the payload, or in the schema that is put, as a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pointer: Option<&'p str>,
    /// The errors of the request, at most one for each event; at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 100)]
    errors: Option<&'p [EventError]>,
    /// How many errors were found. The reading ends with an error of the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1, nullable = false, minimum = 1)]
    error_count: Option<usize>,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let document = Document {
            uri: format!("urn:sluice:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            index: self.index,
            field: self.place.as_ref().and_then(|place| place.field.as_deref()),
            pointer: self.place.as_ref().and_then(|place| place.pointer.as_deref()),
            errors: self.errors.as_ref().map(|errors| errors.first.as_slice()),
            error_count: self.errors.as_ref().map(|errors| errors.count),
        };
        document.serialize(serializer)
    }
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        Document::schema()
    }
}

impl ToSchema for Problem {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Document::schemas(schemas);
    }
}

impl Problem {
    /// Returns a problem with the code's own status. `detail` is shown to the client below status
    /// 500; from 500 on it is only logged, and the client sees a general sentence (see
    /// [`Problem::public_detail`]).
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::with_status(code.status(), code, detail)
    }

    fn with_status(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        let detail = detail.into().into_boxed_str();
        let (detail, cause) =
            if status.is_server_error() { (general(status).into(), Some(detail)) } else { (detail, None) };
        Self { status, code, detail, index: None, place: None, errors: None, cause, retry_after: None, header: None }
    }

    /// Sets the place of the problem: the event's index in the request, from 0, and its field.
    #[must_use]
    pub fn at(mut self, index: Option<usize>, field: Option<&str>) -> Self {
        self.index = index;
        self.place = field.map(|field| Box::new(Place { field: Some(field.into()), pointer: None }));
        self
    }

    /// Sets the place of the problem in the value of the field, as a JSON pointer.
    #[must_use]
    pub fn at_pointer(mut self, pointer: &str) -> Self {
        self.place.get_or_insert_default().pointer = Some(pointer.into());
        self
    }

    /// Sets the index of the part of the request that the problem is about, from 0.
    #[must_use]
    pub fn of_item(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    /// Sets all errors of the request, of which this problem is the first.
    #[must_use]
    pub fn errors(mut self, errors: EventErrors) -> Self {
        self.errors = Some(Box::new(errors));
        self
    }

    /// Sets the header `Retry-After`: whole seconds, rounded up, at least one.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Sets the header `WWW-Authenticate`: how a request must be authenticated.
    #[must_use]
    pub fn challenge(mut self, challenge: &'static str) -> Self {
        self.header = Some(Header::Challenge(challenge));
        self
    }

    /// Sets the header `Accept-Encoding`: the content codings that the body of a request may have.
    #[must_use]
    pub fn accept_encoding(mut self, codings: &'static str) -> Self {
        self.header = Some(Header::AcceptEncoding(codings));
        self
    }

    /// Sets the detail that the client sees, also from status 500 on. It must not contain internal information.
    #[must_use]
    pub fn public_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into().into_boxed_str();
        self
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the problem's code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the detail that the client sees.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// What is logged about a problem. The response carries it in its extensions to the code that logs requests.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) code: Code,
    pub(crate) detail: Box<str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let logged = Logged { code: self.code, detail: self.cause.clone().unwrap_or_else(|| self.detail.clone()) };
        let (status, wait, header) = (self.status, self.retry_after, self.header);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(wait) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, seconds(wait).into());
        }
        if let Some(header) = header {
            let (name, value) = match header {
                Header::Challenge(challenge) => (header::WWW_AUTHENTICATE, challenge),
                Header::AcceptEncoding(codings) => (header::ACCEPT_ENCODING, codings),
            };
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.extensions_mut().insert(logged);
        response
    }
}

/// Returns the problem for a path that nothing serves. Use it as a router's fallback.
pub async fn not_found() -> Problem {
    Problem::new(Code::NotFound, NOTHING_SERVED)
}

/// Returns the problem for an error response without a body, chosen by its status alone.
pub(crate) fn of_status(status: StatusCode) -> Problem {
    let (code, detail) = match status {
        StatusCode::NOT_FOUND => (Code::NotFound, NOTHING_SERVED),
        StatusCode::METHOD_NOT_ALLOWED => (Code::MethodNotAllowed, "this path does not serve that method"),
        _ if status.is_server_error() => (Code::Internal, "an answer without a body"),
        _ => (Code::BadRequest, "the request was refused"),
    };
    Problem::with_status(status, code, detail)
}

/// Returns the problem for a head that hyper refuses with this status.
pub(crate) fn of_head(status: StatusCode) -> Problem {
    let detail = match status {
        StatusCode::URI_TOO_LONG => "the path with its query is too long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the headers are too long, or there are too many",
        _ => "the request is not valid HTTP/1.1",
    };
    Problem::with_status(status, Code::BadRequest, detail)
}

/// Returns the default detail for a server error. It names no cause and no internal component.
fn general(status: StatusCode) -> &'static str {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => "not available at the moment; try again",
        StatusCode::GATEWAY_TIMEOUT => "no answer in time; try again",
        _ => "the server failed; its log has the details under this answer's X-Request-Id",
    }
}

/// Returns whole seconds, at least one: with 0 a client would try again at once.
fn seconds(wait: Duration) -> u64 {
    let up = u64::from(wait.subsec_nanos() > 0);
    (wait.as_secs() + up).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(problem: &Problem) -> serde_json::Value {
        serde_json::to_value(problem).unwrap()
    }

    #[test]
    fn a_problem_names_the_place() {
        let problem = Problem::new(Code::InvalidEvent, "must not be blank");
        assert_eq!(
            json(&problem.at(Some(3), Some("topic"))),
            serde_json::json!({
                "type": "urn:sluice:problem:invalid_event",
                "title": "Unprocessable Entity",
                "status": 422,
                "code": "invalid_event",
                "detail": "must not be blank",
                "index": 3,
                "field": "topic",
            })
        );
    }

    #[test]
    fn the_schema_has_the_documents_fields() {
        let schema = serde_json::to_value(Problem::schema()).unwrap();
        let fields: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(
            fields,
            ["code", "detail", "error_count", "errors", "field", "index", "pointer", "status", "title", "type"]
        );
        assert_eq!(Problem::name(), "Problem");
    }

    #[test]
    fn the_client_of_a_failing_server_sees_no_internals() {
        let problem = Problem::new(Code::LogUnavailable, "redis://secret: refused");
        assert!(!json(&problem).to_string().contains("secret"));
        let response = problem.clone().into_response();
        assert!(response.extensions().get::<Logged>().unwrap().detail.contains("secret"));
        assert!(json(&problem.public_detail("the log is down")).to_string().contains("the log is down"));
    }

    #[test]
    fn retry_after_is_in_whole_seconds_and_never_zero() {
        for (wait, header) in [(0, "1"), (1_000, "1"), (1_001, "2"), (30_000, "30")] {
            let problem = Problem::new(Code::QueueFull, "wait");
            let response = problem.retry_after(Duration::from_millis(wait)).into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], header, "{wait} ms");
            assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        }
    }
}
