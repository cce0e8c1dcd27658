//! The plan of a volume: what is asked for, and what there is.

use super::capacity;
use super::error::{Error, Result};
use super::fetch::Live;
use super::plan::VolumePlan;
use crate::crd::StorageSpec;
use crate::quantity;

/// Returns the plan of the volume of a PersistentVolumeClaim. `field` is that of its spec.
///
/// # Errors
/// [`Error::Invalid`] for a size that is no positive quantity.
pub fn volume(field: &str, storage: &StorageSpec, live: &Live, pvc: &str) -> Result<VolumePlan> {
    let asked = quantity::whole(&storage.size).map_err(|message| Error::invalid(format!("{field}.size"), message))?;
    if asked <= 0 {
        return Err(Error::invalid(format!("{field}.size"), "must be positive"));
    }
    let pvc = live.pvcs.iter().find(|live| live.metadata.name.as_deref() == Some(pvc));
    let there = pvc.and_then(capacity::existing).and_then(|size| quantity::whole(size).ok());
    let bytes = there.map_or(asked, |there| there.min(asked));
    Ok(VolumePlan { size: storage.size.clone(), bytes, storage_class: storage.storage_class_name.clone() })
}
