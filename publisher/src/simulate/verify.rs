//! Compares the stored and counted events with the sent events.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_event::PayloadHash;
use sluice_event::canonical;
use sluice_service::backoff::Backoff;
use tokio::time::{Instant, sleep};

use super::plan::Plan;
use crate::error_chain::error_chain;

const REQUEST: Duration = Duration::from_secs(30);
const PAGE: &str = "1000";
/// The maximum number of topics in `/stats`: a store may have many more topics than the plan.
const TOPICS: &str = "10000";
/// The maximum number of differences that are listed; further ones are only counted.
const LISTED: usize = 20;
/// The depth limit of payloads: deeper than any payload of a plan.
const DEPTH: usize = 64;

/// Queries one server until a deadline.
pub(crate) struct Verifier<'v> {
    pub(crate) client: &'v Client,
    pub(crate) url: &'v str,
    pub(crate) deadline: Instant,
}

/// The counts of a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
struct Counts {
    received: u64,
    unique_processed: u64,
    duplicate_dropped: u64,
    #[serde(default)]
    conflicts: u64,
}

#[derive(Deserialize)]
struct Stats {
    topics: HashMap<String, Counts>,
}

#[derive(Deserialize)]
struct Page<'p> {
    #[serde(borrow)]
    events: Vec<Stored<'p>>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Stored<'p> {
    event_id: String,
    #[serde(borrow)]
    payload: &'p RawValue,
}

/// The differences; the first ones are described as text.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    pub(crate) listed: Vec<String>,
    more: u64,
}

impl Differences {
    fn add(&mut self, difference: String) {
        if self.listed.len() < LISTED {
            self.listed.push(difference);
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.listed.push(format!("and {} more", self.more));
        }
        self.listed
    }
}

impl Verifier<'_> {
    /// Waits until the server has counted all sent events, then compares everything and
    /// returns the differences.
    pub(crate) async fn verify(&self, plan: &Plan) -> anyhow::Result<Vec<String>> {
        let expected = expected(plan);
        let counted = self.wait_until_counted(&expected).await?;
        let mut differences = Differences::default();
        for (topic, expected) in &expected {
            let counted = counted.get(topic).copied().unwrap_or_default();
            if counted != *expected {
                differences.add(format!("/stats of {topic}: {counted:?}, not {expected:?}"));
            }
        }
        let mut stored = self.expected_events(plan);
        for (number, topic) in plan.topics().iter().enumerate() {
            self.compare_topic(topic, &mut stored[number], &mut differences).await?;
        }
        Ok(differences.finish())
    }

    /// Waits until every topic has received at least the number of events sent to it, or until the deadline.
    async fn wait_until_counted(&self, expected: &HashMap<String, Counts>) -> anyhow::Result<HashMap<String, Counts>> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            let body = self.get(self.address(&["stats"], &[("topics", TOPICS)])?).await?;
            let stats: Stats = serde_json::from_slice(&body).context("/stats is not as it should be")?;
            let received = |topic: &str| stats.topics.get(topic).map_or(0, |counts| counts.received);
            let behind = expected.iter().any(|(topic, counts)| received(topic) < counts.received);
            if !behind || Instant::now() >= self.deadline {
                return Ok(stats.topics);
            }
            sleep(backoff.next()).await;
        }
    }

    /// Returns, for each topic, a map from event id to the hash of the payload.
    fn expected_events(&self, plan: &Plan) -> Vec<HashMap<String, Option<PayloadHash>>> {
        let mut topics = vec![HashMap::new(); plan.topics().len()];
        for number in 0..plan.unique() {
            let made = plan.event(number);
            let hash = canonical::hash(&made.payload, DEPTH).ok();
            topics[made.topic].insert(made.event_id, hash);
        }
        topics
    }

    /// Reads a topic's events page by page, and removes each from the expected ones.
    async fn compare_topic(
        &self,
        topic: &str,
        expected: &mut HashMap<String, Option<PayloadHash>>,
        differences: &mut Differences,
    ) -> anyhow::Result<()> {
        let mut cursor = None;
        loop {
            let mut query = vec![("topic", topic), ("limit", PAGE)];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let body = self.get(self.address(&["events"], &query)?).await?;
            let page: Page<'_> = serde_json::from_slice(&body).context("/events is not as it should be")?;
            for Stored { event_id, payload } in page.events {
                match (expected.remove(&event_id), canonical::hash(payload.get(), DEPTH).ok()) {
                    (None, _) => differences.add(format!("{topic}/{event_id} is stored twice, or was never sent")),
                    (Some(sent), stored) if sent == stored => {}
                    (Some(_), _) => differences.add(format!("{topic}/{event_id} has another payload: {payload}")),
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        for event_id in expected.keys() {
            differences.add(format!("{topic}/{event_id} is not stored"));
        }
        Ok(())
    }

    fn address(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Url> {
        let mut url: Url = self.url.parse().with_context(|| format!("{} is no URL", self.url))?;
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(path),
            Err(()) => bail!("{} is no URL of a server", self.url),
        };
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// Repeats a query until it is answered or the deadline is reached.
    async fn get(&self, url: Url) -> anyhow::Result<bytes::Bytes> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let asked = async {
                let response = self.client.get(url.clone()).timeout(REQUEST).send().await?;
                Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
            };
            let reason = match asked.await {
                Ok((StatusCode::OK, body)) => return Ok(body),
                Ok((status, body)) => {
                    let reason = format!("{status}: {}", String::from_utf8_lossy(&body).trim());
                    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
                        bail!("{url} answers {reason}");
                    }
                    reason
                }
                Err(error) => error_chain(&error),
            };
            let wait = backoff.next();
            if Instant::now() + wait >= self.deadline {
                bail!("{url} did not answer within the time for verifying; the last attempt: {reason}");
            }
            sleep(wait).await;
        }
    }
}

fn expected(plan: &Plan) -> HashMap<String, Counts> {
    let counts = plan.per_topic().into_iter().map(|(sent, unique)| Counts {
        received: sent,
        unique_processed: unique,
        duplicate_dropped: sent - unique,
        conflicts: 0,
    });
    plan.topics().iter().cloned().zip(counts).filter(|(_, counts)| counts.received > 0).collect()
}
