//! Finds the resource to which an object belongs, by its owner references. The name is not enough: a resource
//! that was deleted and created again has the same name and another uid.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

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
