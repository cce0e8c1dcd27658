//! `/outcomes/{receipt}`: tells a publisher what became of a request whose client waits.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sluice_event::ReceiptId;
use sluice_publisher::outcome::Outcome;
use sluice_service::problem::Problem;

use super::problem_lists::OutcomeProblems;
use super::problems::not_found;
use super::state::ApiState;
use crate::outcomes::shown;

/// How long an answer waits for the outcome. The publisher asks again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns what became of a request whose client waits (`POST /publish?wait=stored`), as soon as it is stored. A publisher asks
/// this, with the token of its client; nobody else knows the receipt.
#[utoipa::path(get, path = "/outcomes/{receipt}", operation_id = "get_outcome", tag = "publish",
    params(("receipt" = String, Path, pattern = "^[0-9]{1,39}$", description = "The receipt of the request, as a number")),
    responses(
        (status = 200, description = "It is stored", body = Outcome),
        (status = 204, description = "It is not stored within ten seconds, or nobody waits for it"),
        OutcomeProblems,
    ))]
pub(super) async fn read(
    State(state): State<ApiState>,
    method: Method,
    Path(receipt): Path<String>,
) -> Result<Response, Problem> {
    let receipt = receipt.parse::<u128>().ok().map(ReceiptId::from_u128);
    let receipt = receipt.ok_or_else(|| not_found("that is no receipt"))?;
    let uncached = [(header::CACHE_CONTROL, "no-store")];
    if method == Method::HEAD {
        // It does not wait, and there is no header that the outcome decides.
        return Ok((uncached, StatusCode::NO_CONTENT).into_response());
    }
    let outcome = tokio::select! {
        () = state.shutdown.cancelled() => None,
        outcome = tokio::time::timeout(PATIENCE, state.outcomes.wait(receipt)) => outcome.ok().flatten(),
    };
    match outcome {
        Some(outcome) => Ok((uncached, Json(shown(outcome))).into_response()),
        None => Ok((uncached, StatusCode::NO_CONTENT).into_response()),
    }
}
