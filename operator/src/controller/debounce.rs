//! Merges the triggers of one resource that arrive close together, so that a series of changes causes few
//! reconciles.

use std::collections::HashMap;
use std::hash::Hash;
use std::task::Poll;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

/// How long nothing more must happen to a resource before it is reconciled.
const QUIET: Duration = Duration::from_millis(300);
/// How long after the first trigger it is reconciled although others arrive.
const LONGEST: Duration = Duration::from_secs(2);

/// A trigger that has not been passed on yet.
struct Waiting {
    key: Key,
    /// When it is passed on at the latest.
    latest: Instant,
}

/// Passes each trigger on when no equal one has arrived for a moment, but not later than [`LONGEST`] after the
/// first one. Ends when `triggers` ends.
pub fn debounced<T: Clone + Eq + Hash>(triggers: impl Stream<Item = T> + Unpin) -> impl Stream<Item = T> {
    debounced_by(triggers, QUIET, LONGEST)
}

fn debounced_by<T: Clone + Eq + Hash>(
    mut triggers: impl Stream<Item = T> + Unpin,
    quiet: Duration,
    longest: Duration,
) -> impl Stream<Item = T> {
    let mut queue = DelayQueue::new();
    let mut waiting: HashMap<T, Waiting> = HashMap::new();
    stream::poll_fn(move |task| {
        loop {
            // What is due comes first, so that endless triggers cannot hold it back.
            if let Poll::Ready(Some(due)) = queue.poll_expired(task) {
                let due = due.into_inner();
                waiting.remove(&due);
                return Poll::Ready(Some(due));
            }
            match triggers.poll_next_unpin(task) {
                Poll::Ready(Some(trigger)) => {
                    let now = Instant::now();
                    if let Some(waiting) = waiting.get(&trigger) {
                        queue.reset_at(&waiting.key, waiting.latest.min(now + quiet));
                    } else {
                        let key = queue.insert_at(trigger.clone(), now + quiet);
                        waiting.insert(trigger, Waiting { key, latest: now + longest });
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_millis(600);

    /// Returns what is passed on of these triggers, which are 10 ms apart.
    async fn passed_on(triggers: Vec<&'static str>) -> Vec<&'static str> {
        // After the last one the stream stays open until everything has been passed on.
        let pause = tokio::time::sleep(Duration::from_millis(10) * triggers.len() as u32 + LONGEST);
        let triggers = stream::iter(triggers).then(async |trigger| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            trigger
        });
        let open = stream::once(pause).filter_map(async |()| None);
        debounced_by(Box::pin(triggers.chain(open)), QUIET, LONGEST).collect().await
    }

    #[tokio::test(start_paused = true)]
    async fn triggers_close_together_are_passed_on_once() {
        assert_eq!(passed_on(vec!["a", "b", "a", "a"]).await, ["b", "a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn endless_triggers_are_passed_on_all_the_same() {
        let passed = passed_on(vec!["a"; 150]).await;
        assert!((2..10).contains(&passed.len()), "{passed:?}");
    }
}
