//! Kinds of others that a cluster may lack, such as those of the Gateway API, of the Prometheus Operator and of
//! CloudNativePG. The watches find out which there are; a kind that is not there is not asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::Resource;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use serde::de::DeserializeOwned;

use super::build::cloud_native_pg::kinds::{Cluster, ScheduledBackup};
use super::build::http_route::HttpRoute;
use super::build::monitors::pod_monitor::PodMonitor;
use super::build::monitors::prometheus_rule::PrometheusRule;
use super::error::Result;
use super::reader::Reader;

/// What is known of the kinds that the cluster may lack, by their names in the plural.
#[derive(Debug, Default)]
pub struct Optional(Mutex<BTreeMap<String, Known>>);

/// What is known of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// A list, or the watch, was answered that there is no such kind.
    Lacks,
    /// The watch has begun.
    Has,
}

/// All kinds that a cluster may lack, in the plural.
fn all() -> [String; 5] {
    let (clusters, backups) = (Cluster::plural(&()), ScheduledBackup::plural(&()));
    [HttpRoute::plural(&()), PodMonitor::plural(&()), PrometheusRule::plural(&()), clusters, backups].map(String::from)
}

impl Optional {
    /// Returns the objects of a kind that have the labels of a resource: none if the cluster lacks the kind.
    ///
    /// # Errors
    /// That of the list. One that says that there is no such kind is an error too if its watch works: the answer may be
    /// older than the watch, and nothing would tell later that the cluster has the kind.
    pub(super) async fn list<K>(&self, reader: &Reader<'_>) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let kind = K::plural(&());
        if self.lacks(&kind) {
            return Ok(Vec::new());
        }
        match reader.list().await {
            Err(error) if error.is_not_found() && self.is_first_to_tell(&kind) => Ok(Vec::new()),
            result => result,
        }
    }

    /// Returns the kinds that the cluster lacks, in the plural.
    pub fn lacking(&self) -> BTreeSet<String> {
        let known = self.known();
        known.iter().filter(|(_, known)| **known == Known::Lacks).map(|(kind, _)| kind.clone()).collect()
    }

    /// Whether the cluster is known to lack a kind.
    pub fn lacks(&self, kind: &str) -> bool {
        self.known().get(kind) == Some(&Known::Lacks)
    }

    /// Whether a watch failed because the cluster lacks its kind, which is then noted.
    pub fn is_lacking(&self, kind: &str, error: &watcher::Error) -> bool {
        let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
            return false;
        };
        let lacks = may_lack(kind) && matches!(error, kube::Error::Api(status) if status.code == 404);
        if lacks {
            self.known().insert(kind.to_owned(), Known::Lacks);
        }
        lacks
    }

    /// Notes that the watch of a kind has begun, and returns whether the cluster lacked it before.
    pub fn has_appeared(&self, kind: &str) -> bool {
        self.known().insert(kind.to_owned(), Known::Has) == Some(Known::Lacks)
    }

    /// Notes that a list found no such kind, unless the watch has told otherwise. Returns whether it is noted.
    fn is_first_to_tell(&self, kind: &str) -> bool {
        may_lack(kind) && *self.known().entry(kind.to_owned()).or_insert(Known::Lacks) == Known::Lacks
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a cluster may lack a kind.
fn may_lack(kind: &str) -> bool {
    all().iter().any(|optional| optional == kind)
}
