//! The liveness probe `/healthz`, the readiness probe `/readyz`, and `/metrics`.

use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::code::Code;
use crate::problem::{self, Problem};
use crate::process_memory;

/// How long the check behind `/readyz` may take.
const READY_DEADLINE: Duration = Duration::from_secs(2);

/// What the readiness check returns: if the server is ready, what it reports about itself nevertheless, a line each; else
/// the reason.
pub type Readiness = Result<Vec<String>, String>;

/// Returns the routes of the probes and of the metrics. `/healthz` succeeds while the process serves requests,
/// and depends on nothing else. `/readyz` calls `ready` and returns its notes or its error to the client. `/metrics`
/// returns the metrics in Prometheus' text format, including the memory that the process uses at that moment.
pub fn router<S, F>(metrics: PrometheusHandle, ready: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn() -> BoxFuture<'static, Readiness> + Clone + Send + Sync + 'static,
{
    router_with(metrics, String::new, || Ok(()), ready)
}

/// Returns the same routes for a server that has `further` metrics, in the same format, and can find out that it hangs.
/// `/healthz` fails with the reason when `live` returns one, so that the server is started again.
pub fn router_with<S, M, L, F>(metrics: PrometheusHandle, further: M, live: L, ready: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    M: Fn() -> String + Clone + Send + Sync + 'static,
    L: Fn() -> Result<(), String> + Clone + Send + Sync + 'static,
    F: Fn() -> BoxFuture<'static, Readiness> + Clone + Send + Sync + 'static,
{
    probes(live, ready).route("/metrics", get(move || async move { render(&metrics, &further()) }))
}

/// Returns the routes of the probes alone. `/metrics` is not found, so that no other server is asked for it.
pub(crate) fn without_metrics<S, F>(ready: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn() -> BoxFuture<'static, Readiness> + Clone + Send + Sync + 'static,
{
    probes(|| Ok(()), ready).route("/metrics", any(problem::not_found))
}

fn probes<S, L, F>(live: L, ready: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    L: Fn() -> Result<(), String> + Clone + Send + Sync + 'static,
    F: Fn() -> BoxFuture<'static, Readiness> + Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/healthz", get(move || async move { health(live()) }))
        .route("/readyz", get(move || check(ready())))
}

fn health(live: Result<(), String>) -> Response {
    match live {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
    }
}

async fn check(ready: BoxFuture<'static, Readiness>) -> Response {
    let answer = tokio::time::timeout(READY_DEADLINE, ready).await;
    match answer.unwrap_or_else(|_| Err(format!("no answer within {READY_DEADLINE:?}"))) {
        Ok(notes) => {
            let lines = std::iter::once("ready".to_owned()).chain(notes);
            lines.map(|line| line + "\n").collect::<String>().into_response()
        }
        Err(reason) => Problem::new(Code::NotReady, &reason).public_detail(reason).into_response(),
    }
}

fn render(metrics: &PrometheusHandle, further: &str) -> Response {
    process_memory::measure();
    let text = metrics.render() + further;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
