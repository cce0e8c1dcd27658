//! What `audit --record` notes in the store, and `/overview` shows.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The result of the last audit that was noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LastAudit {
    /// When it ended.
    #[schema(format = DateTime)]
    pub at: String,
    /// `exact` if every number agrees, `different` if one differs, `unknown` if one that is needed is not known.
    #[schema(pattern = "^(exact|different|unknown)$", example = "exact")]
    pub verdict: String,
    /// The number of comparisons.
    pub comparisons: usize,
    /// The number of those that were not exact.
    pub differing: usize,
    /// The rows that were compared with their hashes; null if that was not asked for.
    #[schema(required)]
    pub rows_compared: Option<u64>,
}

impl LastAudit {
    /// All verdicts.
    pub const VERDICTS: [&str; 3] = ["exact", "different", "unknown"];
}
