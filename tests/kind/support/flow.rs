//! A continuous flow of events: small loads in sequence, until the flow is stopped. A single load of a
//! fixed length could end before the state that a test waits for is reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;

use super::load::{Load, Running};
use super::objects::Namespace;

/// More loads than the longest test needs. The limit ends a test that would otherwise never end.
const MAX_LOADS: usize = 100;

/// The source of load numbers. Loads with different numbers have different events.
#[derive(Debug, Clone, Default)]
pub struct Numbers(Arc<AtomicU64>);

impl Numbers {
    /// Returns a number that no other load of this trial has.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// A running flow. It starts no further load after it is dropped.
#[derive(Debug)]
pub struct Flow {
    is_stopped: Arc<AtomicBool>,
    task: JoinHandle<Vec<Running>>,
}

impl Flow {
    /// Starts the first load.
    pub fn start(namespace: &Namespace, resource: &'static str, node: Option<String>, numbers: Numbers) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(flow(namespace.clone(), resource, node, numbers, is_stopped.clone()));
        Self { is_stopped, task }
    }

    /// Waits until the current load has ended, and returns all loads of the flow.
    pub async fn stop(mut self) -> Vec<Running> {
        self.is_stopped.store(true, Ordering::SeqCst);
        (&mut self.task).await.expect("every load of the flow succeeds")
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn flow(
    namespace: Namespace,
    resource: &str,
    node: Option<String>,
    numbers: Numbers,
    is_stopped: Arc<AtomicBool>,
) -> Vec<Running> {
    // These loads do not verify: each would wait until its events are stored, and no events would flow
    // meanwhile.
    let load = Load { events: 4_000, rate: 200, batch: 20, concurrency: 2, verify: false, node, ..Load::default() };
    let mut loads = Vec::new();
    while !is_stopped.load(Ordering::SeqCst) {
        assert!(loads.len() < MAX_LOADS, "{MAX_LOADS} loads have ended, and the test has not");
        let running = load.start(&namespace, resource, numbers.next()).await;
        running.finish(&namespace).await;
        loads.push(running);
    }
    loads
}
