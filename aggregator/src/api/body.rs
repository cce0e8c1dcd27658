//! Reads the bodies of requests.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use sluice_service::problem::Problem;

use super::problems::{body_timeout, body_too_large, malformed_body};

/// The longest that a body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// `body_too_large`, `body_timeout`, or `malformed_json` if it ends early.
pub(super) async fn read(body: Body, max: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(TIMEOUT, to_bytes(body, max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => Err(body_too_large(max)),
        Ok(Err(_)) => Err(malformed_body("the body ended early")),
        Err(_) => Err(body_timeout()),
    }
}

/// Returns whether the body was larger than it may be: the only error that has no cause in the connection.
fn is_too_large(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
