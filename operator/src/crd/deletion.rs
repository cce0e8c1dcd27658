//! What happens to the data of a deleted resource.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether the data is retained or deleted with the resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Volumes and passwords stay; a new resource of the same name uses them again.
    #[default]
    Retain,
    /// Volumes and passwords are deleted.
    Delete,
}
