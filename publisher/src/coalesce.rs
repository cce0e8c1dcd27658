//! Collects requests into entries: group commit.
//!
//! There is no timer. The first waiting request is appended at once; requests that arrive while the
//! allowed number of appends is in flight wait, and are packed together as soon as one of them is
//! answered. So a lone request is not delayed, and under load entries grow to what the log can take.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sluice_log::LogWriter;
use sluice_service::problem::Problem;
use tokio::sync::{Semaphore, mpsc};

use crate::append::append;
use crate::pressure::Gate;
use crate::problems::queue_full;
use crate::waiting::Waiting;

/// The maximum number of events in one entry, unless a single request has more.
const MAX_ENTRY_EVENTS: u64 = 1_000;
/// The maximum number of bytes of one entry, unless a single request has more.
const MAX_ENTRY_BYTES: usize = 512 << 10;

/// The limits on the concurrent work of a coalescer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The maximum number of appends in flight.
    pub(crate) appends: usize,
    /// The maximum number of requests in the queue.
    pub(crate) waiting: usize,
}

/// The coalescer of one stream. Its task ends when this handle is dropped and the queue is empty.
pub(crate) struct Coalescer {
    queue: mpsc::Sender<Waiting>,
}

impl Coalescer {
    /// Starts the coalescer of a stream.
    pub(crate) fn start(stream: u16, log: Arc<dyn LogWriter>, gate: Arc<Gate>, bounds: Bounds) -> Self {
        let (queue, arriving) = mpsc::channel(bounds.waiting);
        tokio::spawn(run(stream, log, gate, bounds.appends, arriving));
        Self { queue }
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// `queue_full`.
    pub(crate) fn enqueue(&self, waiting: Waiting) -> Result<(), Problem> {
        self.queue.try_send(waiting).map_err(|_| queue_full())
    }
}

async fn run(
    stream: u16,
    log: Arc<dyn LogWriter>,
    gate: Arc<Gate>,
    appends: usize,
    mut arriving: mpsc::Receiver<Waiting>,
) {
    let in_flight = Arc::new(Semaphore::new(appends));
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(first) = arriving.recv().await else { return };
            waiting.push_back(first);
        }
        let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
        while let Ok(next) = arriving.try_recv() {
            waiting.push_back(next);
        }
        let requests = take_entry(&mut waiting);
        if requests.is_empty() {
            continue;
        }
        let (log, gate) = (log.clone(), gate.clone());
        tokio::spawn(async move {
            append(stream, log.as_ref(), &gate, requests).await;
            drop(permit);
        });
    }
}

/// Removes the requests of the next entry from the queue, in the order of their arrival. Requests whose
/// clients have left are dropped: nobody was told that they are accepted.
fn take_entry(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut entry: Vec<Waiting> = Vec::new();
    let (mut events, mut bytes) = (0, 0);
    let mut bodies = HashMap::new();
    let mut held_back = Vec::new();
    while let Some(next) = waiting.pop_front() {
        if next.reply.is_closed() {
            continue;
        }
        let request = &next.packed.request;
        let fits = events + request.events() <= MAX_ENTRY_EVENTS && bytes + request.len() <= MAX_ENTRY_BYTES;
        if !fits && !entry.is_empty() {
            waiting.push_front(next);
            break;
        }
        // Two requests with the same key and different bodies: the log decides which of them owns the
        // key, so the second goes into a later entry.
        if let Some(keyed) = next.packed.keyed
            && *bodies.entry(keyed.key).or_insert(keyed.body_hash) != keyed.body_hash
        {
            held_back.push(next);
            continue;
        }
        events += request.events();
        bytes += request.len();
        entry.push(next);
    }
    for request in held_back.into_iter().rev() {
        waiting.push_front(request);
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sluice_event::RequestId;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;
    use crate::admission::{Reservation, Slot};
    use crate::body_budget::BodyBudget;
    use crate::pack::tests::{JSON, rules};
    use crate::pack::{Sender, pack};
    use crate::waiting::Outcome;

    fn request(key: Option<&str>, body: &str) -> (Waiting, oneshot::Receiver<Outcome>) {
        let sender = Sender { id: RequestId::random(), subject: None, limit: None, trace: None };
        let packed = pack(sender, key.map(str::as_bytes), body.as_bytes(), JSON, &rules()).unwrap().0;
        let (reply, answer) = oneshot::channel();
        let slot = Slot::take(&Arc::new(Semaphore::new(1))).unwrap();
        let reservation = Reservation::new(Arc::new(BodyBudget::new(1)));
        (Waiting { packed, deadline: Instant::now() + Duration::from_secs(1), reply, slot, reservation }, answer)
    }

    fn events(count: usize, payload: &str) -> String {
        let events: Vec<_> = (0..count).map(|n| format!(r#"{{"id":"{n}","payload":{payload}}}"#)).collect();
        format!("[{}]", events.join(","))
    }

    /// Returns how many requests each entry gets.
    fn entries(requests: &[(Option<&str>, String)]) -> Vec<usize> {
        let (mut waiting, _answers): (VecDeque<_>, Vec<_>) =
            requests.iter().map(|(key, body)| request(*key, body)).unzip();
        std::iter::from_fn(|| Some(take_entry(&mut waiting).len()).filter(|&taken| taken > 0)).collect()
    }

    #[test]
    fn small_requests_share_an_entry() {
        assert_eq!(entries(&vec![(None, events(3, "1")); 200]), [200]);
    }

    #[test]
    fn an_entry_has_at_most_a_thousand_events() {
        assert_eq!(entries(&vec![(None, events(400, "1")); 5]), [2, 2, 1]);
    }

    #[test]
    fn an_entry_has_at_most_half_a_megabyte() {
        let body = events(1, &format!("\"{}\"", "x".repeat(200 << 10)));
        assert_eq!(entries(&vec![(None, body); 5]), [2, 2, 1]);
    }

    #[test]
    fn a_larger_request_is_an_entry_of_its_own() {
        let (small, large) = ((None, events(1, "1")), (None, events(5_000, "1")));
        assert_eq!(entries(&[small.clone(), large.clone(), small.clone(), small]), [1, 1, 2]);
        assert_eq!(entries(&[large]), [1]);
    }

    #[test]
    fn one_key_with_two_bodies_never_shares_an_entry() {
        let with = |key, n| (Some(key), events(n, "1"));
        assert_eq!(entries(&[with("a", 1), with("a", 2), with("b", 1), with("a", 1), with("a", 2)]), [3, 2]);
    }

    #[test]
    fn a_request_whose_client_has_left_is_dropped() {
        let (gone, answer) = request(None, &events(1, "1"));
        let (stays, _answer) = request(None, &events(1, "1"));
        drop(answer);
        let taken = take_entry(&mut VecDeque::from([gone, stays]));
        assert_eq!(taken.len(), 1);
    }
}
