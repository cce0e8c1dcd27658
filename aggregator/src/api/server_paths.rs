//! The paths of the server itself, for the OpenAPI document: `sluice_service::probes` serves the probes and the metrics.

// These functions are never called.
#![allow(dead_code, reason = "the functions only describe paths")]

use super::problem_lists::ReadinessProblems;

/// Tells that the process runs.
#[utoipa::path(get, path = "/healthz", operation_id = "get_health", tag = "server",
    responses((status = 200, description = "The process runs", body = String, content_type = "text/plain", example = "ok\n")))]
pub(super) fn healthz() {}

/// Tells whether the server can do its work.
#[utoipa::path(get, path = "/readyz", operation_id = "get_readiness", tag = "server",
    responses(
        (status = 200, description = "It can: `ready`, and what it reports about itself nevertheless, a line each", body = String, content_type = "text/plain", example = "ready\n"),
        ReadinessProblems,
    ))]
pub(super) fn readyz() {}

/// Returns the metrics of this process, in the text format of Prometheus. It is not found if they have a listener of their own.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "server",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain", example = "sluice_publish_events_total 2\n")))]
pub(super) fn metrics() {}
