//! Which watches fail. A watch that fails is started again, so only one that fails repeatedly is reported.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Resource;

use crate::crd::EventAggregator;

/// How long ago the last failure of a watch that still fails can be: the longest wait between two attempts, and the
/// time that one attempt takes.
const RECENT: Duration = Duration::from_secs(90);
/// How many failures in succession are reported. One is ordinary, for example when the API server has forgotten the
/// version at which a watch continues.
const REPORTED: u32 = 2;

/// The name of a watch: the plural of the kind, and the namespace, unless it covers all.
pub type Watch = (String, Option<String>);

/// The watches that failed last time.
#[derive(Debug, Default)]
pub struct Watches(Mutex<BTreeMap<Watch, Failure>>);

#[derive(Debug)]
struct Failure {
    times: u32,
    last: Instant,
    error: String,
}

impl Watches {
    /// Records that a watch delivered something.
    pub fn worked(&self, watch: &Watch) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(watch);
    }

    /// Records that a watch failed.
    pub fn failed(&self, watch: &Watch, error: String, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.get(watch).filter(|before| now.saturating_duration_since(before.last) < RECENT);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        all.insert(watch.clone(), Failure { times, last: now, error });
    }

    /// Returns a line for each watch that fails repeatedly.
    ///
    /// # Errors
    /// If one of them is of the resources themselves, for example because their definition is not installed. The
    /// operator can do nothing without it.
    pub fn readiness(&self, now: Instant) -> Result<Vec<String>, String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        for (watch, failure) in all.iter() {
            if failure.times < REPORTED || now.saturating_duration_since(failure.last) >= RECENT {
                continue;
            }
            let line = format!("cannot watch {}: {}", say(watch), failure.error);
            if watch.0 == EventAggregator::plural(&()) {
                return Err(line);
            }
            lines.push(line);
        }
        Ok(lines)
    }
}

/// Returns the name of a watch in words.
pub fn say((kind, namespace): &Watch) -> String {
    match namespace {
        Some(namespace) => format!("{kind} in namespace {namespace}"),
        None => kind.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(kind: &str) -> Watch {
        (kind.to_owned(), Some("accounts".to_owned()))
    }

    #[test]
    fn a_watch_that_fails_repeatedly_is_named_until_it_works_again() {
        let (watches, start) = (Watches::default(), Instant::now());
        let readiness = |at| watches.readiness(start + Duration::from_secs(at));
        watches.failed(&watch("pods"), "forbidden".to_owned(), start);
        assert_eq!(readiness(1), Ok(vec![]), "one failure is ordinary");
        watches.failed(&watch("pods"), "forbidden".to_owned(), start + Duration::from_secs(1));
        assert_eq!(readiness(2), Ok(vec!["cannot watch pods in namespace accounts: forbidden".to_owned()]));
        watches.failed(&watch("eventaggregators"), "not found".to_owned(), start);
        watches.failed(&watch("eventaggregators"), "not found".to_owned(), start + Duration::from_secs(2));
        assert_eq!(readiness(3), Err("cannot watch eventaggregators in namespace accounts: not found".to_owned()));
        watches.worked(&watch("eventaggregators"));
        assert!(readiness(3).is_ok());
        // A watch that has started again and has delivered nothing yet fails no more.
        assert_eq!(readiness(120), Ok(vec![]));
    }
}
