//! The query API, with one file per resource.

mod accept;
mod answers;
mod body;
mod caller;
mod cloud_event;
mod conflicts;
mod dead_letters;
mod erase;
mod event;
mod event_list;
mod events;
mod feed;
mod held;
mod meters;
mod openapi;
mod outcomes;
mod overview;
mod page;
mod parameters;
mod problem_lists;
mod problems;
mod query;
mod replay;
mod schemas;
mod series;
mod server_paths;
mod span;
mod sse;
mod state;
mod stats;
mod tail;
mod topics;
mod windows;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};

use answers::Answers;
pub use state::ApiState;

/// Returns all routes of the query API. Lists of events, which may be large, and other queries have separate bounds:
/// the readers of lists cannot keep the operator from asking for statistics.
pub fn router(state: ApiState) -> Router {
    let bounded = || from_fn_with_state(Answers::default(), answers::bounded);
    let lists = Router::new().route("/events", get(events::list)).route_layer(bounded());
    let queries = Router::new()
        .route("/events/{topic}/{event_id}", get(events::one).delete(erase::erase))
        .route("/conflicts", get(conflicts::list))
        .route("/topics", get(topics::list))
        .route("/stats", get(stats::read))
        .route("/stats/series", get(series::read))
        .route("/dead-letters", get(dead_letters::list))
        .route("/meters", get(meters::list))
        .route("/meters/{name}", get(meters::read).put(meters::put).delete(meters::remove))
        .route("/meters/query", post(meters::query))
        .route("/schemas", get(schemas::list))
        .route("/topics/{topic}/schema", get(schemas::read).put(schemas::put).delete(schemas::remove))
        .route("/topics/{topic}/schema/versions", get(schemas::versions))
        .route_layer(bounded());
    let page = if state.has_page { page::routes() } else { Router::new() };
    Router::new()
        .merge(page)
        .merge(lists)
        .merge(queries)
        // It is small, and made once for all who ask for it.
        .route("/overview", get(overview::read))
        .route("/events/tail", get(tail::stream))
        .route("/outcomes/{receipt}", get(outcomes::read))
        .route("/dead-letters/replay", post(replay::matching))
        .route("/dead-letters/{id}", delete(dead_letters::discard))
        .route("/dead-letters/{id}/replay", post(replay::one))
        .route("/openapi.json", get(openapi::document))
        .with_state(state)
}
