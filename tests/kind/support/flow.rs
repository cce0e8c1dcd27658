//! Events that flow for as long as a test takes: small loads, one behind the other, until they are told
//! to stop. A load of a fixed length may end before the moment that a test waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;

use super::load::{Load, Running};
use super::objects::Namespace;

/// More loads than the longest test has time for: without it a test that hangs would go on for ever.
const MOST: usize = 100;

/// Numbers of loads: no two loads of a trial have the same events.
#[derive(Debug, Clone, Default)]
pub struct Numbers(Arc<AtomicU64>);

impl Numbers {
    /// One that no other load has.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// A flow that was started. Dropped, it starts no load any more.
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

    /// Waits for the end of the load that runs; answers all of them.
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
    // It does not verify: that would wait until all is stored, and meanwhile nothing would flow.
    let load = Load { events: 4_000, rate: 200, batch: 20, concurrency: 2, verify: false, node, ..Load::default() };
    let mut loads = Vec::new();
    while !is_stopped.load(Ordering::SeqCst) {
        assert!(loads.len() < MOST, "{MOST} loads have ended one behind the other, and the test has not");
        let running = load.start(&namespace, resource, numbers.next()).await;
        running.finish(&namespace).await;
        loads.push(running);
    }
    loads
}
