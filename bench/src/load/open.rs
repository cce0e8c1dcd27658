//! The open loop: requests are sent at times that are fixed beforehand by the rate, whether or not
//! earlier ones were answered.
//!
//! Latency counts from the scheduled time. A client that waits for an answer before it sends the
//! next request asks less while the system is slow, and so leaves out just those requests that
//! would have waited longest ("coordinated omission"). Here a request that cannot be sent in time,
//! because all connections wait for answers, has its waiting counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::closed::{accepted, on_one_thread};
use super::events::Workload;
use super::http::Connection;

/// Connections: many more than there are requests under way, unless the system stands still.
pub const CONNECTIONS: usize = 64;

/// When each request is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// The first.
    pub start: Instant,
    /// From one to the next.
    pub interval: Duration,
}

impl Schedule {
    /// The moment for request number `n`.
    pub fn at(&self, n: usize) -> Instant {
        self.start + self.interval.mul_f64(n as f64)
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Sent {
    /// From the scheduled time of each request to its answer, in no order.
    pub latencies: Vec<(usize, Duration)>,
    /// Requests that were answered 429, and sent again.
    pub refused: u64,
    /// From the first scheduled time to the last answer.
    pub lasted: Duration,
}

/// Sends every request of the workload at its time.
///
/// # Errors
/// When a request is answered with anything else than 202 and 429, or not at all.
pub async fn send(address: &str, workload: &Arc<Workload>, schedule: Schedule) -> anyhow::Result<Sent> {
    let due = Arc::new(Semaphore::new(0));
    let (address, workload, to_clock) = (address.to_owned(), workload.clone(), due.clone());
    let requests = workload.requests.len();
    // Sleeps more exactly than timers of the runtime, which go by the millisecond.
    let clock = tokio::task::spawn_blocking(move || {
        for n in 0..requests {
            std::thread::sleep(schedule.at(n).saturating_duration_since(Instant::now()));
            to_clock.add_permits(1);
        }
    });
    let sent = on_one_thread(move || send_when_due(address, workload, schedule, due)).await?;
    clock.await.context("the clock broke off")?;
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
                refused += accepted(&mut connection, request).await?;
                latencies.push((number, schedule.at(number).elapsed()));
                if number + 1 == workload.requests.len() {
                    // Nothing more is due: let all others see that there is no next one.
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
    use crate::load::events::Recipe;

    /// Answers every request, but nothing between 100 and 400 ms after the first connection.
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
        let workload = Arc::new(Workload::render(Recipe { per_request: 1, ..Recipe::new(500, 0) }));
        // 500 requests in half a second, on fewer connections than are due during the pause.
        let schedule = Schedule { start: Instant::now(), interval: Duration::from_millis(1) };
        let sent = send(&address, &workload, schedule).await.unwrap();
        assert_eq!(sent.latencies.len(), 500);
        let slow = sent.latencies.iter().filter(|(_, latency)| *latency > Duration::from_millis(50)).count();
        assert!(slow >= 200, "{slow} of about 250 requests waited for more than 50 ms");
    }
}
