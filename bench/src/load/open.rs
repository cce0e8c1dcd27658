//! The open loop: the rate decides beforehand when each request is sent, whether or not earlier ones were
//! answered.
//!
//! Latency counts from the scheduled time. A client that waits for a response before it sends the next
//! request sends less while the system is slow, and so leaves out the requests that would have waited longest
//! ("coordinated omission", a term of Gil Tene). Here, if all connections wait for responses when a request is
//! due, the time until it can be sent is part of its latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::closed::{on_one_thread, send_until_accepted};
use super::events::Workload;
use super::http::Connection;

/// The number of connections: many more than there are requests in flight, unless the system pauses.
pub const CONNECTIONS: usize = 64;

/// When each request is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// The time of the first request.
    pub start: Instant,
    /// The time from one request to the next.
    pub interval: Duration,
}

impl Schedule {
    /// Returns the time of request number `n`, counted from 0.
    pub fn at(&self, n: usize) -> Instant {
        self.start + self.interval.mul_f64(n as f64)
    }
}

/// What was measured while a workload was sent.
#[derive(Debug)]
pub struct Sent {
    /// The number of each request, and the time from its scheduled time to its response, in no order.
    pub latencies: Vec<(usize, Duration)>,
    /// How often a request was answered with 429 and sent again.
    pub refused: u64,
    /// The time from the first scheduled time to the last response.
    pub lasted: Duration,
}

/// Sends every request of the workload at its scheduled time.
///
/// # Errors
/// If a request gets another status than 202 and 429, or no response.
pub async fn send(address: &str, workload: &Arc<Workload>, schedule: Schedule) -> anyhow::Result<Sent> {
    let due = Arc::new(Semaphore::new(0));
    let (address, workload, to_clock) = (address.to_owned(), workload.clone(), due.clone());
    let requests = workload.requests.len();
    // A thread sleeps more exactly than the timers of the runtime, whose resolution is a millisecond.
    let clock = tokio::task::spawn_blocking(move || {
        for n in 0..requests {
            std::thread::sleep(schedule.at(n).saturating_duration_since(Instant::now()));
            to_clock.add_permits(1);
        }
    });
    let sent = on_one_thread(move || send_when_due(address, workload, schedule, due)).await?;
    clock.await.context("the clock thread failed")?;
    Ok(sent)
}

async fn send_when_due(
    address: String,
    workload: Arc<Workload>,
    schedule: Schedule,
    due: Arc<Semaphore>,
) -> anyhow::Result<Sent> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(&address).await?;
        let (workload, next, due) = (workload.clone(), next.clone(), due.clone());
        senders.spawn(async move {
            let (mut latencies, mut refused) = (Vec::new(), 0);
            loop {
                due.acquire().await?.forget();
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(request) = workload.requests.get(number) else { break };
                refused += send_until_accepted(&mut connection, request).await?;
                latencies.push((number, schedule.at(number).elapsed()));
                if number + 1 == workload.requests.len() {
                    // This was the last request: wake all other senders, so that they end.
                    due.add_permits(CONNECTIONS);
                }
            }
            anyhow::Ok((latencies, refused))
        });
    }
    let mut sent = Sent { latencies: Vec::with_capacity(workload.requests.len()), refused: 0, lasted: Duration::ZERO };
    while let Some(sender) = senders.join_next().await {
        let (latencies, refused) = sender.context("a sender failed")??;
        sent.latencies.extend(latencies);
        sent.refused += refused;
    }
    sent.lasted = schedule.start.elapsed();
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::load::events::WorkloadSpec;

    /// Answers every request, except between 100 and 400 ms after the first connection.
    async fn server_that_pauses(listener: TcpListener) {
        let mut began = None;
        while let Ok((mut socket, _)) = listener.accept().await {
            let began = *began.get_or_insert_with(Instant::now);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok(1..) = socket.read(&mut buffer).await {
                    let now = began.elapsed();
                    if (100..400).contains(&now.as_millis()) {
                        tokio::time::sleep(Duration::from_millis(400) - now).await;
                    }
                    let _ = socket.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
                }
            });
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_pause_of_the_server_shows_in_all_requests_that_were_due_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(server_that_pauses(listener));
        let workload = Arc::new(Workload::render(WorkloadSpec { per_request: 1, ..WorkloadSpec::new(500, 0) }));
        // 500 requests in half a second, on fewer connections than are due during the pause.
        let schedule = Schedule { start: Instant::now(), interval: Duration::from_millis(1) };
        let sent = send(&address, &workload, schedule).await.unwrap();
        assert_eq!(sent.latencies.len(), 500);
        let slow = sent.latencies.iter().filter(|(_, latency)| *latency > Duration::from_millis(50)).count();
        assert!(slow >= 200, "{slow} of about 250 requests waited for more than 50 ms");
    }
}
