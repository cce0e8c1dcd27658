//! `POST /publish`: turns HTTP requests into packed requests.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use hyper::body::Incoming;
use metrics::Counter;
use serde::Serialize;
use sluice_auth::Subject;
use sluice_event::RequestId;
use sluice_service::event_errors::{EventError, EventErrors};
use sluice_service::guard::Identity;
use sluice_service::problem::Problem;
use sluice_service::shortcut::{BodyWasRead, Shortcut};
use utoipa::ToSchema;

use crate::admission::Reservation;
use crate::cloud_events::{CloudEventMode, to_structured};
use crate::headers::BodyFormat;
use crate::outcome::{self, Outcome};
use crate::pack::{Packed, Reading, Sender, pack};
use crate::problems::parsing_failed;
use crate::publisher::Publisher;
use crate::{headers, receive};

/// Larger bodies, in bytes, are parsed on a thread of their own: they would delay other requests.
const LARGE_BODY: usize = 256 << 10;
/// The same, if events are compared with schemas, which takes several times as long as parsing them.
const LARGE_CHECKED_BODY: usize = 16 << 10;
const PATH: &str = "/publish";

// Looked up once: the lookup takes longer than counting does.
static ACCEPTED: LazyLock<Counter> =
    LazyLock::new(|| metrics::counter!(crate::metrics::REQUESTS.name, "code" => "accepted"));
static EVENTS: LazyLock<Counter> = LazyLock::new(|| metrics::counter!(crate::metrics::EVENTS.name));
static BODY_BYTES: LazyLock<Counter> = LazyLock::new(|| metrics::counter!(crate::metrics::BODY_BYTES.name));

/// The response to a request whose events are on the disk of the log, or in the store.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Accepted {
    /// `accepted`, or `stored` if its client waited until it was stored.
    #[schema(example = "accepted", pattern = "^(accepted|stored)$")]
    status: &'static str,
    /// The number of events that are accepted: all of the request, or with `partial=true` those without an error. Zero for an
    /// empty array of CloudEvents.
    #[schema(example = 2)]
    count: u64,
    /// With `partial=true`: the number of events that were not accepted, because they have an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rejected: Option<usize>,
    /// With `partial=true`: the errors of these events; at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 100)]
    errors: Option<Vec<EventError>>,
    /// What the sender of CloudEvents should know about the settings of this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    warning: Option<&'static str>,
    /// What became of the request, if its client waited until it was stored. Then the status is 200.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    outcome: Option<Outcome>,
    /// Whether a preference of the client is met.
    #[serde(skip)]
    preference_applied: bool,
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        // Formatted without a serializer, for speed: it is the answer to nearly all requests.
        let is_stored = self.outcome.is_some();
        let body = match (&self.rejected, self.warning, &self.outcome) {
            (None, None, None) => format!(r#"{{"status":"{}","count":{}}}"#, self.status, self.count),
            _ => serde_json::to_string(&self).unwrap_or_default(),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = if is_stored { StatusCode::OK } else { StatusCode::ACCEPTED };
        if self.preference_applied {
            response.headers_mut().insert("preference-applied", HeaderValue::from_static("wait"));
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// Returns the publishing part of a server: `POST /publish`.
pub fn router(publisher: Publisher) -> Router {
    Router::new().route(PATH, post(publish)).with_state(publisher)
}

async fn publish(
    State(publisher): State<Publisher>,
    known: Extensions,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let sender = Sender {
        id: known.get().copied().unwrap_or_else(RequestId::random),
        subject: known.get::<Arc<dyn Identity>>().and_then(|sender| Subject::of(&**sender)),
        limit: known.get(),
        trace: known.get().copied(),
    };
    answer(&publisher, sender, &uri, &headers, body).await
}

/// `serve` answers publishing requests past the router.
impl Shortcut for Publisher {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = PATH;

    async fn answer(&self, id: RequestId, sender: Option<&dyn Identity>, request: Request<Incoming>) -> Response {
        let (head, body) = request.into_parts();
        let (limit, trace) = (head.extensions.get(), head.extensions.get().copied());
        let sender = Sender { id, subject: sender.and_then(Subject::of), limit, trace };
        answer(self, sender, &head.uri, &head.headers, body).await
    }
}

async fn answer<B>(publisher: &Publisher, sender: Sender<'_>, uri: &Uri, headers: &HeaderMap, body: B) -> Response
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut was_read = false;
    match accept(publisher, sender, uri, headers, body, &mut was_read).await {
        Ok(accepted) => {
            ACCEPTED.increment(1);
            accepted.into_response()
        }
        Err(problem) => {
            metrics::counter!(crate::metrics::REQUESTS.name, "code" => problem.code().as_str()).increment(1);
            let mut response = problem.into_response();
            if was_read {
                response.extensions_mut().insert(BodyWasRead);
            }
            response
        }
    }
}

/// Processes a request in steps: checks the headers, receives the body, expands it if it is compressed, adds the headers
/// that are attributes of a CloudEvent, validates and packs it, appends it, and waits until it is stored if its client
/// does.
async fn accept<B>(
    publisher: &Publisher,
    sender: Sender<'_>,
    uri: &Uri,
    headers: &HeaderMap,
    body: B,
    was_read: &mut bool,
) -> Result<Accepted, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let content = headers::check_content(headers)?;
    let outcomes = publisher.outcomes();
    let wait = outcome::wanted(uri, headers)?.filter(|_| outcomes.is_some());
    let partial = headers::is_partial(uri)?;
    let key = headers::idempotency_key(headers)?;
    let rules = publisher.rules();
    let warning = match content.format {
        BodyFormat::Events(_) => None,
        BodyFormat::CloudEvents(_) => rules.cloud_events.check()?,
    };
    publisher.check_room()?;
    let schemas = publisher.schemas().await?;
    let reading = Reading { format: content.format, partial, waits: wait.is_some(), schemas: schemas.as_ref() };

    // Held while the request is in memory, which does not end when its client leaves.
    let mut reservation = publisher.reserve();
    let max = rules.limits.body_bytes;
    let mut body = receive::body(headers, body, max, publisher.body_timeout(), &mut reservation).await?;
    *was_read = true;
    if let Some(coding) = content.coding {
        (body, reservation) = publisher.expander().expand(coding, body, max, reservation).await?;
    }
    let size = body.len() as u64;
    if content.format == BodyFormat::CloudEvents(CloudEventMode::Binary) {
        body = to_structured(headers, &body)?;
        reservation.grow(body.len()).await?;
    }
    let ((mut packed, errors), reservation) = validate(publisher, sender, key, body, reading, reservation).await?;
    let (count, receipt) = (packed.request.events(), packed.receipt);
    match (packed.refused.take(), packed.keyed) {
        // It is stored already, or will be.
        (Some(_), Some(keyed)) if publisher.was_accepted(keyed).await? => {}
        (Some(refused), _) => return Err(*refused),
        // A batch of CloudEvents may be empty.
        (None, _) if count == 0 => {}
        (None, _) => publisher.append(packed, reservation).await?,
    }

    EVENTS.increment(count);
    BODY_BYTES.increment(size);
    tracing::debug!(events = count, keyed = key.is_some(), "accepted");
    let (rejected, errors) = match errors {
        Some(errors) => (Some(errors.count), Some(errors.first)),
        None if reading.partial => (Some(0), Some(Vec::new())),
        None => (None, None),
    };
    let outcome = match (outcomes, wait, receipt) {
        (Some(_), Some(_), _) if count == 0 => Some(Outcome::NOTHING),
        (Some(outcomes), Some(wait), Some(receipt)) => outcomes.wait(receipt, wait, headers).await,
        _ => None,
    };
    let status = if outcome.is_some() { "stored" } else { "accepted" };
    let preference_applied = outcome.is_some() && wait.is_some_and(|wait| wait.is_preference);
    Ok(Accepted { status, count, rejected, errors, warning, outcome, preference_applied })
}

/// Validates and packs a body. It consumes the body, so that only the packed request stays in memory
/// while it waits. The reservation of the body goes with it to the thread that parses large bodies, which continues
/// when the client leaves.
async fn validate(
    publisher: &Publisher,
    sender: Sender<'_>,
    key: Option<&[u8]>,
    body: Bytes,
    reading: Reading<'_>,
    reservation: Reservation,
) -> Result<((Packed, Option<EventErrors>), Reservation), Problem> {
    let rules = publisher.rules();
    let large = if reading.schemas.is_some() { LARGE_CHECKED_BODY } else { LARGE_BODY };
    if body.len() <= large {
        return pack(sender, key, &body, reading, rules).map(|packed| (packed, reservation));
    }
    let (key, rules) = (key.map(<[u8]>::to_vec), rules.clone());
    let Sender { id, trace, .. } = sender;
    let (subject, limit) = (sender.subject.cloned(), sender.limit.cloned());
    let (Reading { format, partial, waits, .. }, schemas) = (reading, reading.schemas.cloned());
    let packing = tokio::task::spawn_blocking(move || {
        let reading = Reading { format, partial, waits, schemas: schemas.as_ref() };
        let sender = Sender { id, subject: subject.as_ref(), limit: limit.as_ref(), trace };
        let packed = pack(sender, key.as_deref(), &body, reading, &rules)?;
        Ok((packed, reservation))
    });
    packing.await.unwrap_or_else(|error| Err(parsing_failed(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_answer_is_the_document_of_the_schema() {
        let accepted = Accepted {
            status: "accepted",
            count: 12_345,
            rejected: None,
            errors: None,
            warning: None,
            outcome: None,
            preference_applied: false,
        };
        let document = serde_json::to_string(&accepted).unwrap();
        let response = accepted.into_response();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let body = axum::body::to_bytes(response.into_body(), 1_000).await.unwrap();
        assert_eq!(body, document);
    }
}
