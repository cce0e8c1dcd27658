//! The honest client: it publishes at a fixed rate, on a few connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;

use super::hostile::Target;
use super::wire::{self, Endpoint};

/// The topic of its events.
pub const TOPIC: &str = "honest";
/// Its connections, each with one request in flight.
const CONNECTIONS: u64 = 8;
/// The requests per second on each connection, of [`EVENTS`] events.
const RATE: u32 = 10;
const EVENTS: u64 = 50;

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    accepted: AtomicU64,
    unknown: AtomicU64,
}

/// What it sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Events that were accepted.
    pub accepted: u64,
    /// Events of requests without an answer.
    pub unknown: u64,
}

/// The running client.
#[derive(Debug)]
pub struct Honest {
    counts: Arc<Counts>,
    connections: JoinSet<()>,
}

impl Honest {
    /// Starts it.
    pub fn start(target: &Target) -> Self {
        let counts = Arc::new(Counts::default());
        let mut connections = JoinSet::new();
        for number in 0..CONNECTIONS {
            connections.spawn(publish(target.endpoint().clone(), number, counts.clone()));
        }
        Self { counts, connections }
    }

    /// Returns how many events were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Waits for the answers of the requests in flight, and ends.
    pub async fn stop(mut self) -> anyhow::Result<Sent> {
        self.counts.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.connections.join_next().await {
            ended.context("a connection of the honest client panicked")?;
        }
        let Counts { accepted, unknown, .. } = &*self.counts;
        Ok(Sent { accepted: accepted.load(Ordering::Relaxed), unknown: unknown.load(Ordering::Relaxed) })
    }
}

async fn publish(endpoint: Endpoint, lane: u64, counts: Arc<Counts>) {
    let mut connection = None;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut sent = 0;
    while !counts.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let mut open = match connection.take() {
            Some(open) => open,
            None => match tokio::time::timeout(Duration::from_secs(5), endpoint.open()).await {
                Ok(Ok(open)) => open,
                _ => continue,
            },
        };
        let ids = (0..EVENTS).map(|event| format!("{lane}-{}", sent * EVENTS + event));
        let events: Vec<String> = ids.map(|id| wire::event(TOPIC, &id, "{\"text\":\"a normal payload\"}")).collect();
        let request = wire::publish(&format!("[{}]", events.join(",")), None);
        sent += 1;
        match open.exchange(&request).await {
            Ok(response) => {
                if response.status == 202 {
                    counts.accepted.fetch_add(EVENTS, Ordering::Relaxed);
                }
                connection = Some(open);
            }
            Err(_) => {
                counts.unknown.fetch_add(EVENTS, Ordering::Relaxed);
            }
        }
    }
}
