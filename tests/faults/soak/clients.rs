//! Clients of several kinds, which write down what they do and what they are told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sluice_tests::Client;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::soak::history::{Answer, History, Request, event};

/// How many clients run, each with one request at a time.
const CLIENTS: u64 = 8;
/// How long a client waits between two requests.
const REST: Duration = Duration::from_millis(40);
/// How long a client waits for an answer. It is longer than the publisher repeats an append.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a request is repeated. Long enough for all faults of a round and for what follows from them.
const PATIENCE: Duration = Duration::from_secs(240);
/// The longest pause before a request is repeated.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// How a client treats a request.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Repeats it with its key until it is accepted.
    Careful,
    /// Like `Careful`, and sends it again after that, as if the answer was lost.
    Forgetful,
    /// Like `Careful`, twice at the same time.
    Doubled,
    /// Sends it once, with a key.
    Brief,
    /// Sends it once, without a key.
    Unkeyed,
    /// Repeats it without a key, so that it may count several times.
    Careless,
}

impl Manner {
    fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..100) {
            0..=44 => Self::Careful,
            45..=54 => Self::Forgetful,
            55..=64 => Self::Doubled,
            65..=69 => Self::Brief,
            70..=94 => Self::Unkeyed,
            _ => Self::Careless,
        }
    }
}

/// Clients that publish until they are told to stop.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    history: Arc<Mutex<History>>,
    stop: Arc<AtomicBool>,
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("the lock")
    }
}

impl Clients {
    /// Starts clients, which use these addresses of the system in turn.
    pub fn start(bases: &[String], seed: u64, history: &Arc<Mutex<History>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).zip(bases.iter().cycle()).map(|(number, base)| {
            let random = StdRng::seed_from_u64(seed.wrapping_mul(CLIENTS).wrapping_add(number));
            let shared = Shared { client: Client::new(base), history: history.clone(), stop: stop.clone() };
            tokio::spawn(run(shared, random))
        });
        let tasks = clients.collect();
        Self { stop, tasks }
    }

    /// Starts no new requests, and waits until those that must be accepted are.
    pub async fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("a client does not panic");
        }
    }
}

/// Runs one client: a request, a pause, the next request.
async fn run(shared: Shared, mut random: StdRng) {
    while !shared.stop.load(Ordering::SeqCst) {
        let manner = Manner::random(&mut random);
        let is_keyed = !matches!(manner, Manner::Unkeyed | Manner::Careless);
        let key = is_keyed.then(|| Uuid::from_u128(random.random()).to_string());
        let (number, request) = {
            let mut history = shared.history();
            let number = history.add(&mut random, key);
            (number, history.request(number).clone())
        };
        let mut other = StdRng::from_seed(random.random());
        match manner {
            Manner::Careful => repeat(&shared, number, &request, &mut random).await,
            Manner::Forgetful => {
                repeat(&shared, number, &request, &mut random).await;
                attempt(&shared, number, &request).await;
            }
            Manner::Doubled => {
                tokio::join!(
                    repeat(&shared, number, &request, &mut random),
                    repeat(&shared, number, &request, &mut other)
                );
            }
            Manner::Brief | Manner::Unkeyed => _ = attempt(&shared, number, &request).await,
            Manner::Careless => repeat(&shared, number, &request, &mut random).await,
        }
        let remembered = shared.history().remembered(&mut random);
        if let Some(request) = remembered.filter(|_| random.random_bool(0.05)) {
            // It is stored since an earlier round, so it may be answered or not, and must count no more.
            send(&shared, &request).await;
        }
        tokio::time::sleep(REST).await;
    }
}

/// Sends a request until it is accepted, with growing pauses.
async fn repeat(shared: &Shared, number: usize, request: &Request, random: &mut StdRng) {
    let started = Instant::now();
    let mut pause = Duration::from_millis(20);
    while attempt(shared, number, request).await != Answer::Accepted {
        if started.elapsed() > PATIENCE {
            let what =
                format!("no acceptance within {PATIENCE:?} of the request from {:?}", event(request.events[0]).1);
            return shared.history().wrong(what);
        }
        tokio::time::sleep(pause.mul_f64(random.random())).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Sends a request once, and records the answer.
async fn attempt(shared: &Shared, number: usize, request: &Request) -> Answer {
    let answer = send(shared, request).await;
    shared.history().answered(number, answer);
    answer
}

async fn send(shared: &Shared, request: &Request) -> Answer {
    let mut post = shared.client.request("POST", "/publish").timeout(ATTEMPT);
    if let Some(key) = &request.key {
        post = post.header("Idempotency-Key", key);
    }
    let answer = post.header("Content-Type", "application/json").body(body(&request.events)).send().await;
    let (status, text) = match answer {
        // The status decides: a body that is cut off does not matter.
        Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
        // Nothing was sent.
        Err(error) if error.is_connect() => return Answer::Refused,
        Err(_) => return Answer::Unknown,
    };
    let count = format!("\"count\":{}", request.events.len());
    match status {
        202 if text.is_empty() || text.contains(&count) => Answer::Accepted,
        503 if text.contains("\"log_full\"") => Answer::Refused,
        429 => Answer::Refused,
        408 | 503 => Answer::Unknown,
        _ => {
            shared.history().wrong(format!("a valid request of {} events got {status} {text}", request.events.len()));
            if status == 202 { Answer::Accepted } else { Answer::Unknown }
        }
    }
}

fn body(events: &[u64]) -> String {
    let events = events.iter().map(|n| {
        let (topic, id, payload) = event(*n);
        format!(r#"{{"topic":"{topic}","event_id":"{id}","source":"soak","payload":{payload}}}"#)
    });
    format!("[{}]", events.collect::<Vec<_>>().join(","))
}
