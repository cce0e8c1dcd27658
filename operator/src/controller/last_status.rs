//! The status that the operator wrote last to each resource. The copy of a resource that a watch delivers can be
//! older than that, and a status must not be compared with an old one: a change back to it would not be written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::crd::{EventAggregator, EventAggregatorStatus};

/// How long a status is remembered. It is far longer than a watch lags behind, and it bounds how many deleted
/// resources are remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The latest status of each resource, by its uid.
#[derive(Debug, Default)]
pub struct LastStatus(Mutex<HashMap<String, Written>>);

#[derive(Debug)]
struct Written {
    status: EventAggregatorStatus,
    version: u64,
    at: Instant,
}

impl LastStatus {
    /// Remembers the status of `written`, the resource as the API server returned it after a write.
    pub fn remember(&self, written: EventAggregator) {
        let (Some(uid), Some(version), Some(status)) = (written.uid(), version(&written), written.status) else {
            return;
        };
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, written| now.duration_since(written.at) < REMEMBERED);
        all.insert(uid, Written { status, version, at: now });
    }

    /// Returns `cached` with the status that was written last, unless `cached` is at least as new.
    pub fn newest<'a>(&self, cached: &'a EventAggregator) -> Cow<'a, EventAggregator> {
        let uid = cached.uid().unwrap_or_default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (all.get(&uid), version(cached)) {
            (Some(written), Some(version)) if version < written.version => {
                let status = Some(written.status.clone());
                Cow::Owned(EventAggregator { status, ..cached.clone() })
            }
            _ => {
                all.remove(&uid);
                Cow::Borrowed(cached)
            }
        }
    }
}

/// Returns the resource version, which is a number that grows. Where a server does not use numbers, what a watch
/// delivered counts as the newest.
fn version(resource: &EventAggregator) -> Option<u64> {
    resource.metadata.resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(version: &str, replicas: i32) -> EventAggregator {
        let mut resource = EventAggregator::new("ledger", Default::default());
        resource.metadata.uid = Some("uid".to_owned());
        resource.metadata.resource_version = Some(version.to_owned());
        resource.status = Some(EventAggregatorStatus { replicas: Some(replicas), ..Default::default() });
        resource
    }

    fn replicas(last: &LastStatus, cached: &EventAggregator) -> Option<i32> {
        last.newest(cached).status.as_ref().and_then(|status| status.replicas)
    }

    #[test]
    fn only_a_copy_that_is_older_than_the_last_write_is_replaced() {
        let last = LastStatus::default();
        assert_eq!(replicas(&last, &resource("9", 1)), Some(1));
        last.remember(resource("10", 2));
        assert_eq!(replicas(&last, &resource("9", 1)), Some(2), "9 is older than 10");
        assert_eq!(replicas(&last, &resource("9", 1)), Some(2), "it is remembered until the watch has caught up");
        assert_eq!(replicas(&last, &resource("11", 3)), Some(3));
        assert!(last.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
