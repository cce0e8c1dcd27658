//! A reader that follows the feed during a test, and in the end must have had every event.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::wait::holds;
use crate::{Client, System, wait_until};

/// How long it waits when there is nothing new, or no answer.
const PAUSE: Duration = Duration::from_millis(50);
/// How long it may take to come to the end of the feed.
const CATCH_UP: Duration = Duration::from_secs(120);

/// An event: its topic and its id.
type Key = (String, String);

/// Follows `GET /events?order=asc` from its beginning, across failures of whatever it asks.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// Whether everything is stored, so that the end of the feed is its end.
    all_stored: AtomicBool,
    at_end: AtomicBool,
}

#[derive(Debug, Default)]
struct Seen {
    /// What was delivered since a repetition was last declared, in this order.
    since: Vec<Key>,
    /// How often a repetition was declared before each event was last delivered.
    delivered: HashMap<Key, u64>,
    repetitions: u64,
    fault: Option<String>,
}

impl Seen {
    fn add(&mut self, page: &Value) {
        if !page["repeated_from"].is_null() {
            self.repetitions += 1;
            self.since.clear();
        }
        for event in page["events"].as_array().expect("events") {
            let text = |name: &str| event[name].as_str().expect("a text").to_owned();
            let key = (text("topic"), text("event_id"));
            if self.delivered.insert(key.clone(), self.repetitions) == Some(self.repetitions) {
                self.fault.get_or_insert_with(|| format!("{key:?} came twice, and nothing had said that it may"));
            }
            self.since.push(key);
        }
    }
}

impl Follower {
    /// Begins to follow the feed at this address.
    pub fn start(base: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(follow(Client::new(base), shared.clone()));
        Self { shared, task }
    }

    /// Waits until it has come to the end, when everything is stored. Fails unless it has had every row, in the order of the
    /// feed as it is now, and none twice unless the feed had said so.
    pub async fn finish(self, system: &System) {
        self.shared.all_stored.store(true, Ordering::SeqCst);
        wait_until("the follower comes to the end of the feed", CATCH_UP, || async {
            holds(self.shared.at_end.load(Ordering::SeqCst), || "it reads".into())
        })
        .await;
        let seen = std::mem::take(&mut *self.shared.seen.lock().expect("the lock"));
        assert_eq!(seen.fault, None);
        let whole = whole(&system.client).await;
        let rows = system.reader().await.rows().await.expect("the rows");
        let rows: HashMap<Key, String> = rows.into_iter().map(|(topic, id, payload)| ((topic, id), payload)).collect();
        assert_eq!(whole.len(), rows.len(), "events in the feed, and rows");
        assert!(whole.iter().all(|key| rows.contains_key(key)), "the feed has an event that is not stored");
        assert!(
            whole.ends_with(&seen.since),
            "the follower had {} events since the last of {} repetitions, not in the order of the {} in the feed",
            seen.since.len(),
            seen.repetitions,
            whole.len()
        );
        assert!(seen.repetitions > 0 || seen.since.len() == whole.len(), "{} of {}", seen.since.len(), whole.len());
        let skipped: Vec<_> = whole.iter().filter(|key| !seen.delivered.contains_key(key)).take(5).collect();
        assert!(skipped.is_empty(), "the follower never had {skipped:?}");
        println!("   the feed was followed: {} events, {} repetitions declared", whole.len(), seen.repetitions);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(client: Client, shared: Arc<Shared>) {
    let mut after = "start".to_owned();
    loop {
        let all_stored = shared.all_stored.load(Ordering::SeqCst);
        let request = client.request("GET", &format!("/events?order=asc&limit=500&after={after}"));
        let answer = client.try_send(request.timeout(Duration::from_secs(20))).await;
        let Some(answer) = answer.ok().filter(|answer| answer.status == 200) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let page = answer.json();
        shared.seen.lock().expect("the lock").add(&page);
        after = page["next_cursor"].as_str().expect("a cursor").to_owned();
        if page["more"] == false && page["events"].as_array().is_some_and(Vec::is_empty) {
            shared.at_end.store(all_stored, Ordering::SeqCst);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Reads the whole feed. Nothing may be stored meanwhile.
async fn whole(client: &Client) -> Vec<Key> {
    let (mut seen, mut after) = (Seen::default(), "start".to_owned());
    loop {
        let page = client.get_json(&format!("/events?order=asc&limit=1000&after={after}")).await;
        seen.add(&page);
        after = page["next_cursor"].as_str().expect("a cursor").to_owned();
        if page["more"] == false {
            assert_eq!((seen.fault, seen.repetitions), (None, 0));
            return seen.since;
        }
    }
}
