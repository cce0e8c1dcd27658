//! The query API: a file per resource.

mod dead_letters;
mod events;
mod openapi;
mod query;
mod stats;
mod topics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use sluice_log::LogReader;
use sluice_service::problem::Problem;

use sluice_store::CommitOptions;
use sluice_store::{Store, StoreError};

/// When a client is told to come back while the store is away.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    store: Arc<dyn Store>,
    log: Arc<dyn LogReader>,
    rules: Arc<CommitOptions>,
    started: Instant,
}

impl ApiState {
    /// The state of a server that starts now; `rules` are those of this replica.
    pub fn new(store: Arc<dyn Store>, log: Arc<dyn LogReader>, rules: CommitOptions) -> Self {
        // Replays count on a shard of their own: they never wait for a worker's batch.
        let rules = Arc::new(CommitOptions { shard: format!("{}/replay", rules.shard), ..rules });
        Self { store, log, rules, started: Instant::now() }
    }
}

/// All routes of the query API.
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

/// What a client is told of a store's error. The rest is for the log.
fn problem(error: StoreError) -> Problem {
    match error {
        StoreError::Unavailable(_) | StoreError::Conflict(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", error.to_string())
                .say("the store does not answer; try again")
                .retry_after(STORE_RETRY)
        }
        StoreError::Refused { .. } | StoreError::Failed(_) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
        }
    }
}

fn not_found(what: impl Into<String>) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", what)
}
