//! Serving with deadlines, and an orderly shutdown.

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
use crate::options::ServeOptions;
use crate::shortcut::{NoShortcut, Shortcut};

/// Connections served at the same time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8_192;

/// Binds an address such as `0.0.0.0:8080`; port 0 takes a free one.
///
/// # Errors
/// When the address is taken or is no address.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves until `shutdown` is cancelled, then stops accepting connections and lets requests in
/// flight finish for up to the shutdown timeout. Every request passes the guard of the options and
/// then [`crate::request_log::middleware`]. The deadline of a body is the handler's to set: it knows
/// how large a body it expects.
///
/// # Errors
/// When the listener has no address.
pub async fn run(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    options: ServeOptions,
) -> anyhow::Result<()> {
    serve(listener, Served::new(router, None::<NoShortcut>, options.guard), shutdown, options.deadlines).await
}

/// Does what [`run`] does, with one route that is answered past the router. The guard is asked
/// about that route too.
///
/// # Errors
/// When the listener has no address.
pub async fn run_with_shortcut(
    listener: TcpListener,
    router: Router,
    shortcut: impl Shortcut,
    shutdown: CancellationToken,
    options: ServeOptions,
) -> anyhow::Result<()> {
    serve(listener, Served::new(router, Some(shortcut), options.guard), shutdown, options.deadlines).await
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
    let abort = CancellationToken::new();
    accept(&listener, &Arc::new(served), &shutdown, &abort, deadlines, &connections).await;

    drop(listener);
    connections.close();
    tracing::info!(connections = connections.len(), "shutting down: finishing requests in flight");
    if tokio::time::timeout(deadlines.shutdown_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "the shutdown timeout is over: closing the connections left");
        abort.cancel();
        connections.wait().await;
    }
    tracing::info!("stopped");
    Ok(())
}

async fn accept<S: Shortcut>(
    listener: &TcpListener,
    served: &Arc<Served<S>>,
    shutdown: &CancellationToken,
    abort: &CancellationToken,
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
                // Mostly "too many open files": other connections must close before one can be opened.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(backoff.next()).await;
                continue;
            }
        };
        backoff.reset();
        let serving = connection::serve(stream, served.clone(), deadlines, shutdown.clone(), abort.clone());
        connections.spawn(async move {
            serving.await;
            drop(slot);
        });
    }
}
