//! The one hook that every request to a server passes before it is handled. Authentication and similar checks
//! belong here, because the requests of a [`Shortcut`] do not pass the layers of the router.
//!
//! [`Shortcut`]: crate::shortcut::Shortcut

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use axum::http::Request;
use axum::http::request::Parts;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::code::Code;
use crate::problem::Problem;

/// Decides whether a request is served.
///
/// It receives the request without its body (method, path, query and headers), so that no handler reads the body
/// of a request that is refused. It returns who sent the request, which a shortcut is given and a handler
/// finds in the request's extensions as an `Arc<dyn Identity>`. It also checks requests to `/healthz`, `/readyz` and
/// `/metrics`, and to paths that do not exist: it must decide which of them are public.
pub trait RequestGuard: Send + Sync + 'static {
    /// Checks a request before the shortcut and the router, unless [`check_now`](Self::check_now) has decided about it.
    ///
    /// The duration of the check is part of the request's duration in the log and in the metrics. The check runs
    /// outside of the request's span: what it logs does not contain the request's id.
    ///
    /// After a panic the client gets status 500 with the code `internal`.
    fn check<'r>(&'r self, request: &'r mut Parts) -> BoxFuture<'r, Decision>;

    /// Checks a request like [`check`](Self::check) if nothing must be waited for: small requests are measurably faster
    /// without a future of their own. Returns `None` otherwise, and then changes nothing.
    fn check_now(&self, _request: &mut Parts) -> Option<Decision> {
        None
    }
}

/// Who sent a request, as the guard of the server knows it. Who knows the type gets it back as `&dyn Any`.
pub trait Identity: Any + Send + Sync {
    /// Returns the name for the log.
    fn name(&self) -> &str;
}

/// What a guard has decided about a request, and what it knows about the sender.
#[derive(Clone, Default)]
pub struct Decision {
    sender: Option<Arc<dyn Identity>>,
    refusal: Option<Problem>,
}

impl Decision {
    /// Returns the decision that a request is served.
    pub fn serve() -> Self {
        Self::default()
    }

    /// Returns the decision that the client gets a problem instead. It has a request id, is logged, and is counted in the
    /// metrics like every response.
    pub fn refuse(problem: Problem) -> Self {
        Self { refusal: Some(problem), sender: None }
    }

    /// Returns the decision with who sent the request.
    pub fn about(self, sender: Arc<dyn Identity>) -> Self {
        Self { sender: Some(sender), ..self }
    }
}

impl From<Result<(), Problem>> for Decision {
    fn from(checked: Result<(), Problem>) -> Self {
        Self { refusal: checked.err(), sender: None }
    }
}

/// A server's guard, shared by all its connections; with `None` every request passes.
pub type SharedGuard = Option<Arc<dyn RequestGuard>>;

/// The decision about a request, with which it is handled. [`crate::request_log`] returns the refusal instead of calling
/// a handler.
#[derive(Clone)]
pub(crate) struct Checked {
    /// When the request arrived, before the guard was called.
    pub(crate) started: Instant,
    pub(crate) refusal: Option<Problem>,
    pub(crate) sender: Option<Arc<dyn Identity>>,
    /// `http`, or `https` if the server speaks TLS.
    pub(crate) scheme: &'static str,
}

impl Checked {
    /// Returns what is known about a request that arrives now and that no guard sees.
    pub(crate) fn unguarded() -> Self {
        Self::of(Instant::now(), Decision::serve())
    }

    /// Returns the refusal of a request that arrives now and that no guard sees.
    pub(crate) fn refused(problem: Problem) -> Self {
        Self::of(Instant::now(), Decision::refuse(problem))
    }

    fn of(started: Instant, Decision { sender, refusal }: Decision) -> Self {
        Self { started, refusal, sender, scheme: "http" }
    }
}

/// Calls the guard, if it can decide at once.
pub(crate) fn check_now<B>(guard: &dyn RequestGuard, request: Request<B>) -> (Request<B>, Option<Checked>) {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let decision = catch_unwind(AssertUnwindSafe(|| guard.check_now(&mut parts))).unwrap_or_else(|_| Some(panicked()));
    (Request::from_parts(parts, body), decision.map(|decision| Checked::of(started, decision)))
}

/// Calls the guard, and waits for its decision.
pub(crate) async fn check<B>(guard: &dyn RequestGuard, request: Request<B>) -> (Request<B>, Checked) {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    // The guard is called inside of the future, so that a panic before its first wait is caught too.
    let checking = AssertUnwindSafe(async { guard.check(&mut parts).await }).catch_unwind().await;
    let checked = Checked::of(started, checking.unwrap_or_else(|_| panicked()));
    (Request::from_parts(parts, body), checked)
}

fn panicked() -> Decision {
    Decision::refuse(Problem::new(Code::Internal, "the request guard panicked"))
}
