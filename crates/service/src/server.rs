//! Serving with deadlines, and a drain at the end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::connection::{self, Served};
use crate::deadlines::Deadlines;
use crate::shortcut::{Never, Shortcut};

/// Connections served at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8_192;

/// Binds an address such as `0.0.0.0:8080`; port 0 takes a free one.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves until `shutdown` is cancelled, then stops accepting and lets requests in hand finish
/// for up to `drain`. Every request passes [`crate::request_log::middleware`]. A body's deadline is the
/// handler's to set: it knows how large a body it expects.
pub async fn run(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    shutdown_timeout: Duration,
) -> anyhow::Result<()> {
    run_with(listener, router, shutdown, Deadlines::usual(shutdown_timeout)).await
}

/// [`run`] with other deadlines.
pub async fn run_with(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    deadlines: Deadlines,
) -> anyhow::Result<()> {
    serve(listener, Served::new(router, None::<Never>), shutdown, deadlines).await
}

/// [`run_with`] and a route that is answered past the router.
pub async fn run_with_shortcut(
    listener: TcpListener,
    router: Router,
    shortcut: impl Shortcut,
    shutdown: CancellationToken,
    deadlines: Deadlines,
) -> anyhow::Result<()> {
    serve(listener, Served::new(router, Some(shortcut)), shutdown, deadlines).await
}

async fn serve<S: Shortcut>(
    listener: TcpListener,
    served: Served<S>,
    shutdown: CancellationToken,
    deadlines: Deadlines,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the listener has no address")?;
    tracing::info!(%address, "listening");
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    accept(&listener, &Arc::new(served), &shutdown, &cut, deadlines, &connections).await;

    drop(listener);
    connections.close();
    tracing::info!(connections = connections.len(), "draining");
    if tokio::time::timeout(deadlines.shutdown_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "the drain took too long: cutting what is left");
        cut.cancel();
        connections.wait().await;
    }
    tracing::info!("stopped");
    Ok(())
}

async fn accept<S: Shortcut>(
    listener: &TcpListener,
    served: &Arc<Served<S>>,
    shutdown: &CancellationToken,
    cut: &CancellationToken,
    deadlines: Deadlines,
    connections: &TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            () = shutdown.cancelled() => return,
            next = next => next,
        };
        let stream: TcpStream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Mostly "too many open files": others must close before there is one to take.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(backoff.next()).await;
                continue;
            }
        };
        backoff.reset();
        let serving = connection::serve(stream, served.clone(), deadlines, shutdown.clone(), cut.clone());
        connections.spawn(async move {
            serving.await;
            drop(slot);
        });
    }
}
