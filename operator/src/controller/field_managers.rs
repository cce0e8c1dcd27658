//! The field managers of an object. A write of ours that is not a server-side apply gets an entry of its own, of the
//! operation `Update`. It would own its fields for ever: a later apply without such a field would not remove it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::{Value, json};

use super::build::names::MANAGER;

/// Whether a write of ours that is not an apply owns fields of the object.
pub fn has_update_of_ours(meta: &ObjectMeta) -> bool {
    meta.managed_fields.iter().flatten().any(is_update_of_ours)
}

/// Returns the merge patch that removes the entry of such writes. The API server refuses it if the object has been
/// written meanwhile.
pub fn without_updates_of_ours(meta: &ObjectMeta) -> Value {
    let others: Vec<_> = meta.managed_fields.iter().flatten().filter(|entry| !is_update_of_ours(entry)).collect();
    json!({ "metadata": { "managedFields": others, "resourceVersion": meta.resource_version } })
}

/// Whether somebody else owns the number of replicas, such as an autoscaler that has set it. It then stays when an apply of
/// ours does not have it.
pub fn others_own_replicas(meta: &ObjectMeta) -> bool {
    meta.managed_fields.iter().flatten().any(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0["f:spec"]["f:replicas"]);
        entry.manager.as_deref() != Some(MANAGER) && fields.is_some_and(|replicas| !replicas.is_null())
    })
}

fn is_update_of_ours(entry: &ManagedFieldsEntry) -> bool {
    let text = |field: &Option<String>, text: &str| field.as_deref().is_some_and(|field| field == text);
    text(&entry.manager, MANAGER)
        && text(&entry.operation, "Update")
        && entry.subresource.as_deref().is_none_or(str::is_empty)
}
