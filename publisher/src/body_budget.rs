//! The bound on the bytes of all bodies that the publisher holds.
//!
//! A body holds its bytes from their arrival until the log has answered. A client that sends most of a large body and
//! then stops would hold them for the whole body timeout, and nine such clients would hold all of them. So when the
//! bytes run short, the bodies that have been arriving for longer than [`SLOW`] are refused, the oldest first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long a body may take to arrive while others need its bytes.
const SLOW: Duration = Duration::from_secs(1);
/// How long a refused body may take to return its bytes: it only needs to be scheduled.
const RETURN_TIMEOUT: Duration = Duration::from_millis(100);

/// A permit for each byte that may be held, and the bodies that are still arriving.
pub(crate) struct BodyBudget {
    /// All bytes, free or not.
    total: usize,
    free: Arc<Semaphore>,
    slow: Duration,
    arriving: Mutex<Arriving>,
}

/// The bodies that did not arrive together with their headers, in the order in which they began.
#[derive(Default)]
struct Arriving {
    next: u64,
    bodies: BTreeMap<u64, (Instant, CancellationToken)>,
}

impl BodyBudget {
    /// Returns a budget of this number of bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { total: bytes, free: Arc::new(Semaphore::new(bytes)), slow: SLOW, arriving: Mutex::default() }
    }

    /// Takes bytes; `None` when there are too few of them and slow bodies do not have enough.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        if let Ok(taken) = self.free.clone().try_acquire_many_owned(bytes) {
            return Some(taken);
        }
        let mut count = 1;
        while self.refuse_slow(count) {
            if let Ok(taken) = timeout(RETURN_TIMEOUT, self.free.clone().acquire_many_owned(bytes)).await {
                return taken.ok();
            }
            // There may be thousands of small ones.
            count *= 2;
        }
        None
    }

    /// Returns how many bytes there are, free or not.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Returns how many bytes are free.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Registers a body that is still arriving. It is slow from [`SLOW`] after this call on.
    pub(crate) fn arriving(self: &Arc<Self>) -> ArrivingBody {
        let refused = CancellationToken::new();
        let mut arriving = self.lock();
        let number = arriving.next;
        arriving.next += 1;
        arriving.bodies.insert(number, (Instant::now(), refused.clone()));
        drop(arriving);
        ArrivingBody { budget: self.clone(), number, refused }
    }

    /// Refuses the oldest slow bodies, up to `count`; returns whether there was one.
    fn refuse_slow(&self, count: usize) -> bool {
        let mut arriving = self.lock();
        let mut any = false;
        for _ in 0..count {
            let Some(oldest) = arriving.bodies.first_entry().filter(|body| body.get().0.elapsed() >= self.slow) else {
                break;
            };
            oldest.remove().1.cancel();
            any = true;
        }
        any
    }

    fn lock(&self) -> MutexGuard<'_, Arriving> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that is still arriving, until this is dropped.
pub(crate) struct ArrivingBody {
    budget: Arc<BodyBudget>,
    number: u64,
    refused: CancellationToken,
}

impl ArrivingBody {
    /// Waits until the body is refused because it is slow and others need its bytes.
    pub(crate) async fn refused(&self) {
        self.refused.cancelled().await;
    }
}

impl Drop for ArrivingBody {
    fn drop(&mut self) {
        self.budget.lock().bodies.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether a budget of 100 bytes, of which an arriving body holds 60, has 60 bytes for another one.
    async fn has_room(slow: Duration) -> bool {
        let budget = Arc::new(BodyBudget { slow, ..BodyBudget::new(100) });
        let body = budget.arriving();
        let held = budget.take(60).await.unwrap();
        let receiving = tokio::spawn(async move {
            body.refused().await;
            drop(held);
        });
        let room = budget.take(60).await.is_some();
        receiving.abort();
        room
    }

    #[tokio::test]
    async fn a_slow_body_makes_room_and_one_that_began_just_now_does_not() {
        assert!(has_room(Duration::ZERO).await);
        assert!(!has_room(Duration::from_secs(3_600)).await);
    }

    #[tokio::test]
    async fn many_small_slow_bodies_make_room_for_a_large_one() {
        let budget = Arc::new(BodyBudget { slow: Duration::ZERO, ..BodyBudget::new(1_000) });
        for _ in 0..1_000 {
            let (body, held) = (budget.arriving(), budget.take(1).await.unwrap());
            tokio::spawn(async move {
                body.refused().await;
                drop(held);
            });
        }
        assert!(budget.take(900).await.is_some());
    }
}
