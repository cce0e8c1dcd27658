//! The volume of a server.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A persistent volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::storage)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageSpec {
    /// Size of the volume. It can grow if the storage class allows it, and cannot shrink.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub size: Quantity,
    /// Storage class of the volume; if absent, the cluster's default. It cannot be changed.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self { size: Quantity("8Gi".to_owned()), storage_class_name: None }
    }
}
