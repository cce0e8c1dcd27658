//! `POST /publish`: HTTP → packed requests.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::Serialize;
use sluice_service::problem::Problem;
use sluice_service::request_id::RequestId;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::pack::{Packed, pack};
use crate::{Publisher, headers, receive};

/// Larger bodies are parsed on a thread of their own: they would hold up other requests.
const LARGE_BODY: usize = 256 << 10;

/// The answer to a request whose events are on disk.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Accepted {
    /// Always `accepted`.
    #[schema(example = "accepted")]
    status: &'static str,
    /// How many events the request held.
    #[schema(example = 2)]
    count: u64,
}

/// The publishing part of a server: `POST /publish`.
pub fn router(publisher: Publisher) -> Router {
    Router::new().route("/publish", post(publish)).with_state(publisher)
}

async fn publish(
    State(publisher): State<Publisher>,
    id: Option<Extension<RequestId>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let id = id.map_or_else(Uuid::new_v4, |Extension(RequestId(id))| id);
    let outcome = accept(&publisher, id, &headers, body).await;
    let code = outcome.as_ref().map_or_else(Problem::code, |_| "accepted");
    metrics::counter!("sluice_publish_requests_total", "code" => code).increment(1);
    match outcome {
        Ok(accepted) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The way of a request: checked, received, validated and packed, appended.
async fn accept(publisher: &Publisher, id: Uuid, headers: &HeaderMap, body: Body) -> Result<Accepted, Problem> {
    headers::check_content(headers)?;
    let key = headers::idempotency_key(headers)?;
    publisher.check_room()?;

    // Held until the answer: the packed request is about as large as the body it was.
    let mut reservation = publisher.reserve();
    let most = publisher.limits().body_bytes;
    let body = receive::body(headers, body, most, publisher.body_timeout(), &mut reservation).await?;
    let size = body.len() as u64;
    let packed = validate(publisher, id, key, body).await?;
    let count = packed.request.events();
    publisher.append(packed).await?;

    metrics::counter!("sluice_publish_events_total").increment(count);
    metrics::counter!("sluice_publish_body_bytes_total").increment(size);
    tracing::debug!(events = count, keyed = key.is_some(), "accepted");
    Ok(Accepted { status: "accepted", count })
}

/// Takes the body, so that only the packed request is kept while it waits.
async fn validate(publisher: &Publisher, id: Uuid, key: Option<&[u8]>, body: Bytes) -> Result<Packed, Problem> {
    let limits = *publisher.limits();
    if body.len() <= LARGE_BODY {
        return pack(id, key, &body, &limits);
    }
    let key = key.map(<[u8]>::to_vec);
    let packing = tokio::task::spawn_blocking(move || pack(id, key.as_deref(), &body, &limits));
    let failed =
        |error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("parsing failed: {error}"));
    packing.await.unwrap_or_else(|error| Err(failed(error)))
}
