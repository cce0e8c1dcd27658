//! A load of events with known ids, so that every event that must be stored is known at the end.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long one client repeats one request before it fails, and how long it waits for the response to a request
/// that it must not repeat.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a client waits for a response before it repeats its request.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How many events are in a request that repeats them.
const REPEATED: u64 = 500;

/// The shape of a load.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Number of concurrent clients, each with one request at a time.
    pub clients: u64,
    /// Maximum number of events in a request; the minimum is 1.
    pub batch: u64,
    /// The share of events that were already in an earlier request, from 0 to 1.
    pub duplicate: f64,
    /// How long a client waits between two requests.
    pub rest: Duration,
    /// The number of clients that send without a key. They cannot repeat a request safely, so each request must
    /// receive a response. Use them only for faults that clients do not notice.
    pub unkeyed: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { clients: 8, batch: 40, duplicate: 0.3, rest: Duration::from_millis(15), unkeyed: 0 }
    }
}

/// Clients that publish until they are told to stop. Each request carries an `Idempotency-Key` and is repeated
/// with it until it receives a response, as a careful client does.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    base: String,
    http: reqwest::Client,
    options: LoadOptions,
    stop: AtomicBool,
    /// The number of ids in use: event `n` exists for every `n` below it.
    distinct: AtomicU64,
    /// Events in requests that were sent, each request counted once however often it was repeated.
    sent: AtomicU64,
    /// Events in requests that were answered 202.
    accepted: AtomicU64,
    /// Requests that were sent and have no response yet.
    in_flight: AtomicU64,
    /// Attempts beyond the first of a request.
    repeats: AtomicU64,
    refusal: Mutex<Option<String>>,
}

/// The events that a load has sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Events in all requests, a repeated request once.
    pub sent: u64,
    /// Events in requests that were answered 202.
    pub accepted: u64,
    /// The number of distinct events among them: [`event`] of every number below it.
    pub distinct: u64,
    /// Attempts beyond the first of a request.
    pub repeats: u64,
}

/// Returns event number `n`: its topic, its id, and its payload as JSON text.
pub fn event(n: u64) -> (String, String, String) {
    let payload = format!(r#"{{"n":{n},"text":"event no. {n} — ünïcødé","price":{n}.50,"tags":["a",{{"b":null}}]}}"#);
    (format!("topic-{}", n % 5), format!("evt-{n}"), payload)
}

impl Load {
    /// Starts the clients.
    pub fn start(base: &str, options: LoadOptions) -> Self {
        let shared = Arc::new(Shared {
            base: base.to_owned(),
            http: crate::client::http(base),
            options,
            stop: AtomicBool::new(false),
            distinct: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
            refusal: Mutex::new(None),
        });
        let clients = (0..options.clients).map(|seed| tokio::spawn(client(shared.clone(), seed))).collect();
        Self { shared, clients }
    }

    /// Returns the number of events accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Returns the number of attempts so far beyond the first of a request.
    pub fn repeats(&self) -> u64 {
        self.shared.repeats.load(Ordering::SeqCst)
    }

    /// Returns the number of requests that are sent and have no response at this moment.
    pub fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// Waits until so many more events are accepted, which shows that the system works (again).
    pub async fn more(&self, events: u64) {
        let goal = self.accepted() + events;
        crate::wait_until(&format!("{events} more events are accepted"), PATIENCE, || async {
            let refusal = self.shared.refusal.lock().expect("the lock").clone();
            assert!(refusal.is_none(), "a client was refused: {}", refusal.unwrap_or_default());
            let accepted = self.accepted();
            crate::wait::holds(accepted >= goal, || format!("{accepted} of {goal}, {} in flight", self.in_flight()))
        })
        .await;
    }

    /// Sends every event once more that exists by now. The clients go on meanwhile.
    pub async fn repeat_all(&self) {
        let distinct = self.shared.distinct.load(Ordering::SeqCst);
        let mut random = StdRng::seed_from_u64(u64::MAX);
        for first in (0..distinct).step_by(REPEATED as usize) {
            let again: Vec<_> = (first..distinct.min(first + REPEATED)).map(as_json).collect();
            if !request(&self.shared, &again, true, &mut random).await {
                return;
            }
        }
    }

    /// Starts no new requests. Those that were sent are repeated until they receive a response.
    pub async fn stop(self) -> Sent {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("a client does not panic");
        }
        let shared = &self.shared;
        let refusal = shared.refusal.lock().expect("the lock").clone();
        assert!(refusal.is_none(), "a client was refused: {}", refusal.unwrap_or_default());
        let sent = Sent {
            sent: shared.sent.load(Ordering::SeqCst),
            accepted: shared.accepted.load(Ordering::SeqCst),
            distinct: shared.distinct.load(Ordering::SeqCst),
            repeats: shared.repeats.load(Ordering::SeqCst),
        };
        assert_eq!(sent.sent, sent.accepted, "every request was repeated until it was accepted");
        sent
    }
}

/// Runs one client: a request, its response, a pause, the next request.
async fn client(shared: Arc<Shared>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let keyed = seed >= shared.options.unkeyed;
    while !shared.stop.load(Ordering::SeqCst) {
        let events = batch(&shared, &mut random);
        if !request(&shared, &events, keyed, &mut random).await {
            return;
        }
        tokio::time::sleep(shared.options.rest).await;
    }
}

/// Sends events until they are accepted. Returns false if they were refused.
async fn request(shared: &Shared, events: &[String], keyed: bool, random: &mut StdRng) -> bool {
    let (count, body) = (events.len() as u64, format!("[{}]", events.join(",")));
    shared.sent.fetch_add(count, Ordering::SeqCst);
    shared.in_flight.fetch_add(1, Ordering::SeqCst);
    let key = keyed.then(|| Uuid::from_u128(random.random()).to_string());
    let outcome = publish(shared, &body, count, key.as_deref(), random).await;
    shared.in_flight.fetch_sub(1, Ordering::SeqCst);
    match outcome {
        Ok(()) => {
            shared.accepted.fetch_add(count, Ordering::SeqCst);
            true
        }
        Err(refusal) => {
            shared.refusal.lock().expect("the lock").get_or_insert(refusal);
            false
        }
    }
}

fn as_json(n: u64) -> String {
    let (topic, id, payload) = event(n);
    format!(r#"{{"topic":"{topic}","event_id":"{id}","source":"load","payload":{payload}}}"#)
}

/// Returns new events, and some that this or another client has sent, is sending, or has in this request.
fn batch(shared: &Shared, random: &mut StdRng) -> Vec<String> {
    let size = random.random_range(1..=shared.options.batch);
    (0..size)
        .map(|_| {
            let known = shared.distinct.load(Ordering::SeqCst);
            let again = known > 0 && random.random_bool(shared.options.duplicate);
            // Half of the duplicates follow closely, because these cause races.
            let near = known.saturating_sub(if random.random() { 100 } else { known });
            let n =
                if again { random.random_range(near..known) } else { shared.distinct.fetch_add(1, Ordering::SeqCst) };
            as_json(n)
        })
        .collect()
}

/// Sends one request until it receives a response, with growing pauses; without a key only once.
async fn publish(
    shared: &Shared,
    body: &str,
    count: u64,
    key: Option<&str>,
    random: &mut StdRng,
) -> Result<(), String> {
    let started = Instant::now();
    let mut most = Duration::from_millis(20);
    loop {
        let mut request = shared.http.post(format!("{}/publish", shared.base));
        request = match key {
            Some(key) => request.header("Idempotency-Key", key).timeout(ATTEMPT),
            None => request.timeout(PATIENCE),
        };
        let answer = request.header("Content-Type", "application/json").body(body.to_owned()).send().await;
        let seen = match answer {
            Ok(answer) => {
                let status = answer.status().as_u16();
                // The request is accepted as soon as the status has arrived. A body that is cut off does not
                // matter.
                let text = answer.text().await.unwrap_or_default();
                match status {
                    202 if text.is_empty() || text.contains(&format!("\"count\":{count}")) => return Ok(()),
                    408 | 429 | 500..=599 => format!("{status} {text}"),
                    _ => return Err(format!("{status} {text}")),
                }
            }
            Err(e) => format!("{e:?}"),
        };
        if key.is_none() {
            return Err(format!("a request without a key was not accepted: {seen}"));
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("no acceptance within {PATIENCE:?}; last: {seen}"));
        }
        shared.repeats.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(most.mul_f64(random.random())).await;
        most = (most * 2).min(Duration::from_millis(500));
    }
}
