//! The one hook that every request of a server passes before anything answers it. Authentication
//! and the like belong here: what a layer on the router checks, a [`Shortcut`] does not.
//!
//! [`Shortcut`]: crate::shortcut::Shortcut

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::http::request::Parts;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::Incoming;

use crate::code::Code;
use crate::problem::Problem;

/// Decides whether a request is served.
///
/// It is given the request without its body: method, path, query and headers, so that nobody can
/// make a server read a body before it is let in. What it learns (a token's subject) it inserts into
/// the request's extensions, where handlers and shortcuts find it. It is also asked about
/// `/healthz`, `/readyz` and `/metrics`, and about paths that do not exist: which of them are open
/// to all is its own decision.
pub trait RequestGuard: Send + Sync + 'static {
    /// Checks a request before the shortcut and the router.
    ///
    /// The wait for its outcome is part of the request's duration in the log and in the metrics.
    /// It runs outside of the request's span: what it logs does not carry the request's id.
    ///
    /// # Errors
    /// The problem that the client is answered with instead. It gets its request id, its line in the
    /// log and its place in the metrics as every answer does. A panic is answered 500 `internal`.
    fn check<'r>(&'r self, request: &'r mut Parts) -> BoxFuture<'r, Result<(), Problem>>;
}

/// A guard as a server holds it: shared by all connections; `None` lets every request pass.
pub type SharedGuard = Option<Arc<dyn RequestGuard>>;

/// What the guard made of a request. It travels in the request's extensions to the code that begins
/// the request's log line, which answers with the refusal instead of calling a handler.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    /// When the request came in: before the guard was asked.
    pub(crate) started: Instant,
    pub(crate) refusal: Option<Problem>,
}

/// Asks the guard, and returns the request with its decision in the extensions.
pub(crate) async fn check(guard: &dyn RequestGuard, request: hyper::Request<Incoming>) -> hyper::Request<Incoming> {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    // The guard is called inside of the future, so that a panic before its first wait is caught too.
    let checking = AssertUnwindSafe(async { guard.check(&mut parts).await }).catch_unwind().await;
    let refusal = checking.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "the request guard panicked"))).err();
    parts.extensions.insert(Checked { started, refusal });
    hyper::Request::from_parts(parts, body)
}
