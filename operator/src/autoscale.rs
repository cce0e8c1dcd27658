//! How many aggregators, by the backlog.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What was decided for each resource, by its uid.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<HashMap<String, i32>>);

impl Decisions {
    /// What was decided last.
    pub fn get(&self, uid: &str) -> Option<i32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).copied()
    }
}
