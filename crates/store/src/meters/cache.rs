//! The meters that are in force, as this process has read them.

use std::sync::{Arc, PoisonError, RwLock};

use sluice_meter::{Meter, Set};

use super::status::StoredMeter;
use crate::StoreError;

/// The meters of the last version that was read.
#[derive(Debug)]
pub(crate) struct MeterSets(RwLock<(i64, Arc<Set>)>);

impl Default for MeterSets {
    fn default() -> Self {
        // No store has this version, so the first transaction reads its own.
        Self(RwLock::new((i64::MIN, Arc::default())))
    }
}

impl MeterSets {
    /// Returns the meters of a version, if they were read.
    pub fn get(&self, version: i64) -> Option<Arc<Set>> {
        let read = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (read.0 == version).then(|| Arc::clone(&read.1))
    }

    /// Keeps the meters of a version.
    pub fn put(&self, version: i64, meters: &[StoredMeter]) -> Result<Arc<Set>, StoreError> {
        let meters: Vec<Meter> = meters.iter().map(StoredMeter::meter).collect();
        let set =
            Set::new(&meters).map_err(|error| StoreError::Failed(format!("the meters cannot be used: {error}")))?;
        let set = Arc::new(set);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (version, Arc::clone(&set));
        Ok(set)
    }
}
