//! The PostgreSQL servers of a resource: the one that serves, and those of former major versions.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use crate::controller::build::names::{
    COMPLETE, Component, INCOMPLETE, MAJOR_VARIABLE, Names, VERSION, component_of, pvc_of,
};
use crate::controller::fetch::Live;
use crate::controller::rollout;
use crate::controller::upgrade::plan::Previous;
use crate::crd::EventAggregator;

/// The server that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Its major version.
    pub version: i32,
    /// The major version in the name of its StatefulSet; `None` for the first server of a resource.
    pub suffix: Option<i32>,
    /// Name of its StatefulSet.
    pub set: String,
}

/// Returns the server that serves. It is the one with the highest major version whose volume an upgrade has filled, and
/// without such a volume the first server of the resource.
pub fn serving(resource: &EventAggregator, live: &Live, names: &Names) -> Serving {
    let asked = resource.spec.postgres.managed.version;
    let known = resource.status.as_ref().and_then(|status| status.postgres.as_ref()).map(|postgres| postgres.version);
    let filled = live.pvcs.iter().filter_map(|pvc| {
        let major = major_of(pvc, names)??;
        // The status helps if somebody has removed the note from the volume.
        let is_complete = pvc.annotations().contains_key(COMPLETE);
        let is_known = known == Some(major) && !pvc.annotations().contains_key(INCOMPLETE);
        (is_complete || is_known).then_some(major)
    });
    if let Some(major) = filled.max() {
        return Serving { version: major, suffix: Some(major), set: names.postgres_set(Some(major)) };
    }
    let set = names.postgres_set(None);
    let pvc = live.pvcs.iter().find(|pvc| pvc.name_any() == pvc_of(&set));
    let noted = pvc.and_then(|pvc| pvc.annotations().get(VERSION)).and_then(|version| version.parse().ok());
    let stateful_set = live.objects.stateful_sets.iter().find(|live| live.name_any() == set);
    // A server that has never been ready has nothing that an upgrade could copy.
    let started = stateful_set.filter(|set| {
        let rollout = rollout::of_set(set);
        rollout.wanted == 0 || rollout.ready > 0 || known.is_some()
    });
    let version = noted.or_else(|| started.and_then(version_of)).or(known.filter(|_| pvc.is_some())).unwrap_or(asked);
    Serving { version, suffix: None, set }
}

/// Returns the StatefulSets and pods of former servers that exist.
fn running(live: &Live, names: &Names, serving: &Serving) -> Vec<String> {
    let sets = live.objects.stateful_sets.iter().map(ResourceExt::name_any).filter_map(|set| {
        let major = names.postgres_major(&set)?;
        is_former(major, serving).then_some(set)
    });
    let pods = live.pods.iter().filter(|pod| component_of(pod.labels()) == Some(Component::Postgres.as_str()));
    let pods = pods.map(ResourceExt::name_any).filter_map(|pod| {
        let major = names.postgres_major(pod.rsplit_once('-')?.0)?;
        is_former(major, serving).then(|| format!("pod {pod}"))
    });
    sets.chain(pods).collect()
}

/// Returns what is left of former servers.
pub fn previous(resource: &EventAggregator, live: &Live, names: &Names, serving: &Serving) -> Previous {
    let of_former = |pvc: &&PersistentVolumeClaim| major_of(pvc, names).is_some_and(|major| is_former(major, serving));
    let mut pvcs: Vec<_> = live.pvcs.iter().filter(of_former).map(ResourceExt::name_any).collect();
    pvcs.sort();
    Previous {
        pvcs,
        running: running(live, names, serving),
        is_kept: resource.spec.postgres.managed.upgrade.keep_previous,
    }
}

/// Whether a server of this major version, or the first one of the resource, served before.
fn is_former(major: Option<i32>, serving: &Serving) -> bool {
    match (major, serving.suffix) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(major), Some(serving)) => major < serving,
    }
}

/// Returns the major version in the name of a PostgreSQL's PersistentVolumeClaim, as that of a StatefulSet.
pub fn major_of(pvc: &PersistentVolumeClaim, names: &Names) -> Option<Option<i32>> {
    names.postgres_major(pvc.name_any().strip_prefix("data-")?.strip_suffix("-0")?)
}

/// Returns the major version that a StatefulSet runs.
pub fn version_of(set: &StatefulSet) -> Option<i32> {
    let container = set.spec.as_ref()?.template.spec.as_ref()?.containers.first()?;
    let variable = container.env.iter().flatten().find(|variable| variable.name == MAJOR_VARIABLE)?;
    variable.value.as_ref()?.parse().ok()
}
