//! What stays exactly as it is during an upgrade.

use kube::ResourceExt;

use crate::controller::build::names::Component;
use crate::controller::fetch::Live;
use crate::controller::plan::Plan;

/// Returns the names of the StatefulSets and ConfigMaps that are neither changed nor removed. The server that serves must
/// not restart because of what is meant for the new one, such as an image or a parameter. While rows are copied, the
/// aggregators must not change either.
pub fn frozen(plan: &Plan, live: &Live) -> Vec<String> {
    let (Some(upgrade), Some(postgres)) = (&plan.upgrade, plan.postgres.managed()) else { return Vec::new() };
    let replicas = |name: &str| {
        let set = live.objects.stateful_sets.iter().find(|set| set.name_any() == name);
        set.and_then(|set| set.spec.as_ref()?.replicas)
    };
    let mut names = Vec::new();
    if upgrade.has_begun() && replicas(&postgres.set) == Some(1) {
        names.push(postgres.set.clone());
    }
    let aggregators = plan.names.of(Component::Aggregator);
    if upgrade.is_copying() && replicas(&aggregators) == Some(0) {
        names.push(aggregators);
    }
    names
}
