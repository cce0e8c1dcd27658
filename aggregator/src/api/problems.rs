//! Every problem that the query API itself answers with: its code, its words and its `Retry-After`.

use std::time::Duration;

use sluice_service::code::Code;
use sluice_service::problem::Problem;
use sluice_store::StoreError;

/// A database that restarts is back within seconds.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// Returns what a client is told of a store's error. The error itself is only logged.
pub(super) fn store_problem(error: StoreError) -> Problem {
    match error {
        StoreError::Unavailable(_) | StoreError::Conflict(_) => Problem::new(Code::StoreUnavailable, error.to_string())
            .public_detail("the store does not answer; try again")
            .retry_after(STORE_RETRY),
        StoreError::Refused { .. } | StoreError::Failed(_) => Problem::new(Code::Internal, error.to_string()),
    }
}

/// The store refused a dead letter's events again, for the reason in `error`.
pub(super) fn still_refused(error: &StoreError) -> Problem {
    Problem::new(Code::StillRefused, error.to_string())
}

/// The event or the dead letter that the path names does not exist.
pub(super) fn not_found(detail: &str) -> Problem {
    Problem::new(Code::NotFound, detail)
}

/// A query parameter is unknown or has an invalid value.
pub(super) fn invalid_query(name: &str, message: &str) -> Problem {
    Problem::new(Code::InvalidQuery, format!("{name}: {message}")).at(None, Some(name))
}
