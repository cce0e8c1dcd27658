//! Resolves the names of hosts with a deadline, and with a bound on the threads that do it.
//!
//! The system's resolver blocks its thread, and may do so for a minute when a name server does not answer. Without a
//! bound, forwarded requests would occupy all threads of the runtime for blocking work, and the large bodies that are
//! parsed there would have to wait.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::Service;

/// The maximum number of names that are resolved at the same time.
const MAX_RESOLVING: usize = 4;
/// How long a name may take, the wait for its turn included.
const DEADLINE: Duration = Duration::from_secs(2);

type Resolve = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// A resolver for a [`hyper_util::client::legacy::connect::HttpConnector`].
#[derive(Clone)]
pub(crate) struct BoundedResolver {
    resolve: Resolve,
    deadline: Duration,
    permits: Arc<Semaphore>,
}

impl BoundedResolver {
    /// Returns a resolver that asks the system.
    pub(crate) fn new() -> Self {
        Self::with(system, DEADLINE)
    }

    fn with(resolve: Resolve, deadline: Duration) -> Self {
        Self { resolve, deadline, permits: Arc::new(Semaphore::new(MAX_RESOLVING)) }
    }

    async fn addresses(self, name: String) -> io::Result<std::vec::IntoIter<SocketAddr>> {
        let resolving = async {
            let permit = self.permits.acquire_owned().await.map_err(io::Error::other)?;
            let resolved = tokio::task::spawn_blocking(move || {
                let resolved = (self.resolve)(&name);
                // Not before the thread is free again, also when nobody waits for it any more.
                drop(permit);
                resolved
            });
            resolved.await.map_err(io::Error::other)?
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time");
        timeout(self.deadline, resolving).await.map_err(|_| late())?.map(Vec::into_iter)
    }
}

/// The port is replaced by the connector.
fn system(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, 0).to_socket_addrs()?.collect())
}

impl Service<Name> for BoundedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().addresses(name.as_str().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;

    static RESOLVING: AtomicUsize = AtomicUsize::new(0);
    static ANSWERS: AtomicBool = AtomicBool::new(false);

    /// Does not return before the name server answers, or a minute has passed.
    fn hangs(_: &str) -> io::Result<Vec<SocketAddr>> {
        RESOLVING.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        while !ANSWERS.load(Ordering::Relaxed) && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Vec::new())
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_holds_few_threads_and_fails_in_time() {
        let resolver = BoundedResolver::with(hangs, Duration::from_millis(100));
        // Those of the first round still occupy their threads in the next ones, although nobody waits for them.
        for _ in 0..3 {
            let many = (0..50).map(|_| resolver.clone().addresses("slow".to_owned()));
            for outcome in futures::future::join_all(many).await {
                assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
        }
        let resolving = RESOLVING.load(Ordering::Relaxed);
        ANSWERS.store(true, Ordering::Relaxed);
        assert!(resolving <= MAX_RESOLVING, "{resolving} threads");
    }

    #[tokio::test]
    async fn a_name_is_resolved() {
        let found: Vec<_> = BoundedResolver::new().addresses("localhost".to_owned()).await.unwrap().collect();
        assert!(found.iter().any(|address| address.ip().is_loopback()), "{found:?}");
    }
}
