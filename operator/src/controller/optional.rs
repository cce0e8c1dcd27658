//! Kinds of others that a cluster may lack, such as those of the Gateway API, of the Prometheus Operator and of
//! CloudNativePG. The watches
//! find out which there are; a kind that is not there is not asked for.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

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

/// The kinds that the cluster lacks, in the plural.
#[derive(Debug, Default)]
pub struct Optional(Mutex<BTreeSet<String>>);

/// All kinds that a cluster may lack, in the plural.
fn all() -> [String; 5] {
    let (clusters, backups) = (Cluster::plural(&()), ScheduledBackup::plural(&()));
    [HttpRoute::plural(&()), PodMonitor::plural(&()), PrometheusRule::plural(&()), clusters, backups].map(String::from)
}

impl Optional {
    /// Returns the objects of a kind that have the labels of a resource: none if the cluster lacks the kind.
    pub(super) async fn list<K>(&self, reader: &Reader<'_>) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let kind = K::plural(&());
        if self.lacks(&kind) {
            return Ok(Vec::new());
        }
        match reader.list().await {
            Err(error) if error.is_not_found() => {
                self.note_lacking(&kind);
                Ok(Vec::new())
            }
            result => result,
        }
    }

    /// Returns the kinds that the cluster lacks, in the plural.
    pub fn lacking(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the cluster is known to lack a kind.
    pub fn lacks(&self, kind: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(kind)
    }

    /// Whether a watch failed because the cluster lacks its kind, which is then noted.
    pub fn is_lacking(&self, kind: &str, error: &watcher::Error) -> bool {
        let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
            return false;
        };
        let not_found = matches!(error, kube::Error::Api(status) if status.code == 404);
        not_found && self.note_lacking(kind)
    }

    /// Notes that the cluster has a kind, and returns whether it lacked it before.
    pub fn has_appeared(&self, kind: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(kind)
    }

    /// Notes that the cluster lacks a kind, and returns whether it may.
    fn note_lacking(&self, kind: &str) -> bool {
        let may = all().iter().any(|optional| optional == kind);
        if may {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.to_owned());
        }
        may
    }
}
