//! `/openapi.json`: the whole API, the publisher's part too, since one address serves both.

use axum::Json;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(title = "Sluice", description = "Stores and counts every event exactly once."),
    paths(
        super::events::list,
        super::events::one,
        super::topics::list,
        super::stats::read,
        super::dead_letters::list,
        super::dead_letters::replay,
    ),
    tags(
        (name = "events", description = "What is stored"),
        (name = "statistics", description = "What was counted"),
        (name = "dead letters", description = "What could not be stored"),
    )
)]
struct Document;

pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    let mut document = Document::openapi();
    document.merge(sluice_publisher::openapi());
    Json(document)
}
