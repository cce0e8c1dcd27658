//! The sizes of volumes: what is asked for, what the PersistentVolumeClaim (PVC) requests, and what there is. It
//! is pure.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use crate::quantity;

/// Conditions of a PVC that report an error. Kubernetes tries again, without much hope.
const FAILED: [&str; 3] = ["ControllerResizeError", "NodeResizeError", "ModifyVolumeError"];
/// Condition of a PVC whose volume has grown, and whose file system has not.
const FILE_SYSTEM_PENDING: &str = "FileSystemResizePending";

/// A volume that is smaller than asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Growth {
    /// It is growing, or will when the message has been followed.
    Underway(String),
    /// It cannot grow. The message is that of Kubernetes.
    Failed(String),
}

/// Returns the size that a PVC requests.
pub fn requested(pvc: &PersistentVolumeClaim) -> Option<&Quantity> {
    pvc.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

/// Returns the size of the volume itself. It is absent before the PVC is bound to a volume.
pub fn provided(pvc: &PersistentVolumeClaim) -> Option<&Quantity> {
    pvc.status.as_ref()?.capacity.as_ref()?.get("storage")
}

/// Returns the size that is certainly there: the smaller one of the requested and the provided size. (A storage
/// driver may provide more than was requested.)
pub fn existing(pvc: &PersistentVolumeClaim) -> Option<&Quantity> {
    match (requested(pvc), provided(pvc)) {
        (Some(requested), Some(provided)) if is_smaller(provided, requested) => Some(provided),
        (Some(requested), _) => Some(requested),
        (None, provided) => provided,
    }
}

/// Returns what a PVC lacks, if its volume is smaller than `asked`.
pub fn growth(pvc: &PersistentVolumeClaim, asked: &Quantity) -> Option<Growth> {
    let there = existing(pvc).filter(|there| is_smaller(there, asked))?;
    let (name, there, asked) = (pvc.name_any(), &there.0, &asked.0);
    let status = pvc.status.as_ref();
    let conditions = || status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    let failed =
        conditions().find(|condition| condition.status == "True" && FAILED.contains(&condition.type_.as_str()));
    if let Some(failed) = failed {
        let why = failed.message.as_deref().unwrap_or("no message");
        let message =
            format!("PersistentVolumeClaim {name} has {there} and cannot grow to {asked}: {}: {why}", failed.type_);
        return Some(Growth::Failed(message));
    }
    if let Some(infeasible) = status.and_then(infeasible) {
        let message = format!("PersistentVolumeClaim {name} has {there} and cannot grow to {asked}: {infeasible}");
        return Some(Growth::Failed(message));
    }
    let has = |name: &str| conditions().any(|condition| condition.status == "True" && condition.type_ == name);
    let advice = if has(FILE_SYSTEM_PENDING) {
        let pod = name.strip_prefix("data-").unwrap_or(&name);
        format!("the file system grows while the pod runs, or when it starts again: kubectl delete pod {pod}")
    } else if has("Resizing") {
        "the storage driver is making it larger".to_owned()
    } else {
        let class = pvc.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or("");
        format!(
            "waiting for the storage driver; if this stays, the driver of storage class {class:?} cannot make volumes \
             larger: set the size to {there} again"
        )
    };
    Some(Growth::Underway(format!("PersistentVolumeClaim {name} has {there} of {asked}: {advice}")))
}

/// Returns the state of a growth that Kubernetes has given up.
fn infeasible(status: &PersistentVolumeClaimStatus) -> Option<&str> {
    let state = status.allocated_resource_statuses.as_ref()?.get("storage")?;
    state.ends_with("Infeasible").then_some(state.as_str())
}

/// Whether an amount is smaller than another. Amounts that are not quantities are not.
pub fn is_smaller(one: &Quantity, other: &Quantity) -> bool {
    matches!((quantity::milli(one), quantity::milli(other)), (Ok(one), Ok(other)) if one < other)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pvc(requested: &str, status: Value) -> PersistentVolumeClaim {
        let pvc = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-shop-redis-0"},
            "spec": {"storageClassName": "slow", "resources": {"requests": {"storage": requested}}}, "status": status
        });
        serde_json::from_value(pvc).unwrap()
    }

    fn size(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn a_volume_is_as_large_as_the_smaller_one_of_what_is_requested_and_what_is_provided() {
        let of = |requested: &str, status| existing(&pvc(requested, status)).map(|size| size.0.clone());
        assert_eq!(of("8Gi", json!({})).as_deref(), Some("8Gi"), "it is not bound yet");
        assert_eq!(of("20Gi", json!({"capacity": {"storage": "8Gi"}})).as_deref(), Some("8Gi"));
        assert_eq!(of("1500Mi", json!({"capacity": {"storage": "2Gi"}})).as_deref(), Some("1500Mi"));
    }

    #[test]
    fn a_volume_that_is_smaller_than_asked_says_what_to_do() {
        let of = |conditions: Value| {
            let pvc = pvc("20Gi", json!({"capacity": {"storage": "8Gi"}, "conditions": conditions}));
            growth(&pvc, &size("20Gi"))
        };
        let condition = |name: &str| json!([{"type": name, "status": "True", "message": "no quota"}]);
        let underway = |growth: Option<Growth>, words: &str| match growth {
            Some(Growth::Underway(message)) => {
                assert!(message.contains(words) && message.contains("data-shop-redis-0 has 8Gi of 20Gi"), "{message}");
            }
            other => panic!("{other:?}"),
        };
        underway(of(json!([])), "\"slow\" cannot make volumes larger: set the size to 8Gi again");
        underway(of(condition("Resizing")), "is making it larger");
        underway(of(condition("FileSystemResizePending")), "kubectl delete pod shop-redis-0");
        for failed in ["ControllerResizeError", "NodeResizeError", "ModifyVolumeError"] {
            let Some(Growth::Failed(message)) = of(condition(failed)) else { panic!("{failed}") };
            assert!(message.contains("no quota") && message.contains(failed), "{message}");
        }
        let infeasible = json!({"capacity": {"storage": "8Gi"},
            "allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"}});
        assert!(matches!(growth(&pvc("20Gi", infeasible), &size("20Gi")), Some(Growth::Failed(_))));
    }

    #[test]
    fn a_volume_that_is_large_enough_needs_nothing() {
        let large = pvc("20Gi", json!({"capacity": {"storage": "20Gi"}}));
        for asked in ["8Gi", "20Gi", "20480Mi"] {
            assert_eq!(growth(&large, &size(asked)), None, "{asked}");
        }
    }
}
