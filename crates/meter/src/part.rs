//! What one meter has counted in a transaction.

use std::collections::HashMap;

use crate::window::Window;

/// What one meter has counted.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// The windows of a minute, by the minute since 1970.
    pub windows: HashMap<i64, Window>,
    /// The number of events without a value that can be used, and one of them.
    pub skipped: u64,
    pub example: Option<String>,
}
