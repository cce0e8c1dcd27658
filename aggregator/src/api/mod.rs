//! The query API, with one file per resource.

mod dead_letters;
mod events;
mod openapi;
mod problems;
mod query;
mod state;
mod stats;
mod topics;

use axum::Router;
use axum::routing::{get, post};

pub use state::ApiState;

/// Returns all routes of the query API.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route("/events", get(events::list))
        .route("/events/{topic}/{event_id}", get(events::one))
        .route("/topics", get(topics::list))
        .route("/stats", get(stats::read))
        .route("/dead-letters", get(dead_letters::list))
        .route("/dead-letters/{id}/replay", post(dead_letters::replay))
        .route("/openapi.json", get(openapi::document))
        .with_state(state)
}
