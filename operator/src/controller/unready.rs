//! The reasons that aggregators give for not being ready. They are asked beside the reconciles, because a program that does not
//! answer would delay the reconciles of all resources.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// For each resource, by its uid, the pod that is asked and its last answer.
#[derive(Debug, Default)]
pub struct Unready(Mutex<HashMap<String, Asked>>);

#[derive(Debug)]
struct Asked {
    pod: String,
    reason: Option<String>,
}

impl Unready {
    /// Records which pod of a resource is not ready, and returns the reason that it has given. `None` as the pod means that
    /// all are ready.
    pub fn note(&self, uid: &str, pod: Option<&str>) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pod) = pod else {
            all.remove(uid);
            return None;
        };
        match all.get(uid) {
            Some(asked) if asked.pod == pod => asked.reason.clone(),
            _ => {
                all.insert(uid.to_owned(), Asked { pod: pod.to_owned(), reason: None });
                None
            }
        }
    }

    /// Returns the pod of a resource that is to be asked.
    pub fn pod(&self, uid: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).map(|asked| asked.pod.clone())
    }

    /// Records the answer of a pod, and returns whether it is another one than before.
    pub fn answered(&self, uid: &str, pod: &str, reason: Option<String>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(uid).filter(|asked| asked.pod == pod && asked.reason != reason) {
            Some(asked) => {
                asked.reason = reason;
                true
            }
            None => false,
        }
    }

    /// Forgets the resources that were deleted.
    pub fn forget<'a>(&self, uids: impl IntoIterator<Item = &'a String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for uid in uids {
            all.remove(uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_belongs_to_the_pod_that_gave_it() {
        let unready = Unready::default();
        assert_eq!((unready.note("uid", Some("a-0")), unready.pod("uid")), (None, Some("a-0".to_owned())));
        assert!(unready.answered("uid", "a-0", Some("no database".to_owned())));
        assert!(!unready.answered("uid", "a-0", Some("no database".to_owned())), "it is no news");
        assert_eq!(unready.note("uid", Some("a-0")).as_deref(), Some("no database"));
        assert_eq!(unready.note("uid", Some("a-1")), None);
        assert!(!unready.answered("uid", "a-0", Some("late".to_owned())), "nobody asks that pod any more");
        assert_eq!((unready.note("uid", None), unready.pod("uid")), (None, None));
    }
}
