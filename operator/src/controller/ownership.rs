//! Finds the resource to which an object belongs, by its owner references. The name is not enough: a resource
//! that was deleted and created again has the same name and another uid.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::build::names::MANAGER;
use super::plan::Plan;

/// Whether an object belongs to another resource, such as an earlier one of the same name.
pub(super) fn owned_by_another(meta: &ObjectMeta, plan: &Plan) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.uid != plan.owner.uid)
}

/// Whether an object has the resource of `plan` among its owners.
pub(super) fn owned_by_us(meta: &ObjectMeta, plan: &Plan) -> bool {
    meta.owner_references.iter().flatten().any(|owner| owner.uid == plan.owner.uid)
}

/// Whether the operator created an object that lacks some of its labels: it has those in `labels`, or the API server
/// has recorded writes of the operator.
pub(super) fn made_by_us(meta: &ObjectMeta, labels: &BTreeMap<String, String>) -> bool {
    let has = |(name, value)| meta.labels.as_ref().and_then(|labels| labels.get(name)) == Some(value);
    let mut managers = meta.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref());
    labels.iter().all(has) || managers.any(|manager| manager == MANAGER)
}
