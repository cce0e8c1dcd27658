//! The one hook that every request to a server passes before it is handled. Authentication and similar checks
//! belong here, because the requests of a [`Shortcut`] do not pass the layers of the router.
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
/// It receives the request without its body (method, path, query and headers), so that no handler reads the body
/// of a request that is refused. It inserts what it learns (such as a token's subject) into the request's
/// extensions, where handlers and shortcuts find it. It also checks requests to `/healthz`, `/readyz` and
/// `/metrics`, and to paths that do not exist: it must decide which of them are public.
pub trait RequestGuard: Send + Sync + 'static {
    /// Checks a request before the shortcut and the router.
    ///
    /// The duration of the check is part of the request's duration in the log and in the metrics. The check runs
    /// outside of the request's span: what it logs does not contain the request's id.
    ///
    /// # Errors
    /// The problem that the client gets instead. It has a request id, is logged, and is counted in the metrics like
    /// every response. After a panic the client gets status 500 with the code `internal`.
    fn check<'r>(&'r self, request: &'r mut Parts) -> BoxFuture<'r, Result<(), Problem>>;
}

/// The name of who sent a request, which a guard leaves in the extensions of the request for the log.
#[derive(Debug, Clone)]
pub struct SubjectName(pub Arc<str>);

/// A server's guard, shared by all its connections; with `None` every request passes.
pub type SharedGuard = Option<Arc<dyn RequestGuard>>;

/// The guard's decision about a request. The request carries it in its extensions to [`crate::request_log`],
/// which returns the refusal instead of calling a handler.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    /// When the request arrived, before the guard was called.
    pub(crate) started: Instant,
    pub(crate) refusal: Option<Problem>,
    pub(crate) subject: Option<SubjectName>,
}

/// Refuses a request that the guard does not see.
pub(crate) fn refuse<B>(request: &mut hyper::Request<B>, problem: Problem) {
    request.extensions_mut().insert(Checked { started: Instant::now(), refusal: Some(problem), subject: None });
}

/// Calls the guard, and returns the request with the decision in its extensions.
pub(crate) async fn check(guard: &dyn RequestGuard, request: hyper::Request<Incoming>) -> hyper::Request<Incoming> {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    // The guard is called inside of the future, so that a panic before its first wait is caught too.
    let checking = AssertUnwindSafe(async { guard.check(&mut parts).await }).catch_unwind().await;
    let refusal = checking.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "the request guard panicked"))).err();
    let subject = parts.extensions.remove::<SubjectName>();
    parts.extensions.insert(Checked { started, refusal, subject });
    hyper::Request::from_parts(parts, body)
}
