//! The closed loop: several connections, each with one request in flight. Each sends its next request as soon
//! as the one before is answered. It finds the highest rate; for latency see [`super::open`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinSet;

use super::events::Workload;
use super::http::Connection;

/// Sends every request of the workload, and sends it again after a 429, once the time of `Retry-After` has
/// passed. Returns how many responses were 429.
///
/// # Errors
/// If a request gets another status than 202 and 429, or no response.
pub async fn send(address: &str, workload: &Arc<Workload>, connections: usize) -> anyhow::Result<u64> {
    let (address, workload) = (address.to_owned(), workload.clone());
    on_one_thread(move || send_all(address, workload, connections)).await
}

/// Runs a load on a thread and a runtime of its own, so that its tasks do not move from core to core.
///
/// # Errors
/// If the load fails or panics.
pub async fn on_one_thread<T, F>(load: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>>,
{
    let thread = move || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(load());
    tokio::task::spawn_blocking(thread).await.context("the thread of the load failed")?
}

async fn send_all(address: String, workload: Arc<Workload>, connections: usize) -> anyhow::Result<u64> {
    let next = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(&address).await?;
        let (workload, next, refused) = (workload.clone(), next.clone(), refused.clone());
        senders.spawn(async move {
            while let Some(request) = workload.requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                refused.fetch_add(send_until_accepted(&mut connection, request).await?, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.context("a sender failed")??;
    }
    Ok(refused.load(Ordering::Relaxed))
}

/// Sends a request until it is accepted. Returns how often it was refused with 429.
///
/// # Errors
/// If it gets another status than 202 and 429, or no response.
pub async fn send_until_accepted(connection: &mut Connection, request: &[u8]) -> anyhow::Result<u64> {
    let mut refused = 0;
    loop {
        let response = connection.exchange(request).await?;
        match response.status {
            202 => return Ok(refused),
            429 => {
                refused += 1;
                tokio::time::sleep(Duration::from_secs(response.retry_after.unwrap_or(1))).await;
                // A server that refuses a request before it has read the body may close the connection.
                connection.reopen().await?;
            }
            status => bail!("/publish answered {status}: {}", String::from_utf8_lossy(&response.body)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_request_that_was_refused_by_a_server_that_closed_the_connection_is_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            for head in ["429 Too Many Requests\r\nRetry-After: 0", "202 Accepted"] {
                let (mut socket, _) = listener.accept().await.unwrap();
                let read = socket.read(&mut [0; 1024]).await.unwrap();
                assert!(read > 0, "a request");
                socket.write_all(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
            }
        });
        let mut connection = Connection::open(&address).await.unwrap();
        let request = b"POST /publish HTTP/1.1\r\nHost: sluice\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(send_until_accepted(&mut connection, request).await.unwrap(), 1);
        serving.await.unwrap();
    }
}
