//! Serves connections with deadlines, and shuts down gracefully.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::connection::{self, Bounds, Served};
use crate::deadlines::Deadlines;
use crate::listen;
use crate::open_connections::OpenConnections;
use crate::open_files;
use crate::options::ServeOptions;
use crate::shortcut::{NoShortcut, Shortcut};

/// Binds an address such as `[::]:8080`; port 0 selects a free port. `[::]` accepts IPv4 too, and means `0.0.0.0` on a
/// machine without IPv6.
///
/// # Errors
/// When the address is in use or invalid.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    listen::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves until `shutdown` is cancelled, then stops accepting connections and waits for the requests in flight
/// for up to the shutdown timeout. Every request passes the guard of the options and then
/// [`crate::request_log::middleware`]. A handler sets the deadline for reading the body itself, because only it
/// knows how large a body it expects.
///
/// # Errors
/// When the listener has no address.
pub async fn run(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    options: ServeOptions,
) -> anyhow::Result<()> {
    serve(listener, router, None::<NoShortcut>, shutdown, options).await
}

/// Serves as [`run`] does, with one route that is served without the router. The requests of that route pass the
/// guard too.
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
    serve(listener, router, Some(shortcut), shutdown, options).await
}

async fn serve<S: Shortcut>(
    listener: TcpListener,
    router: Router,
    shortcut: Option<S>,
    shutdown: CancellationToken,
    options: ServeOptions,
) -> anyhow::Result<()> {
    let served = Served::new(router, shortcut, &options);
    let ServeOptions { deadlines, tls, max_connections, .. } = options;
    open_files::raise_limit();
    let address = listener.local_addr().context("the listener has no address")?;
    tracing::info!(%address, tls = tls.is_some(), "listening");
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().watch(shutdown.clone()));
    }
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    let open = OpenConnections::new(max_connections);
    accept(&listener, &open, &Arc::new(served), &shutdown, &abort, deadlines, &connections).await;

    drop(listener);
    connections.close();
    tracing::info!(connections = connections.len(), "shutting down: finishing requests in flight");
    if tokio::time::timeout(deadlines.shutdown_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "the shutdown timeout is over: closing all connections");
        abort.cancel();
        connections.wait().await;
    }
    tracing::info!("stopped");
    Ok(())
}

async fn accept<S: Shortcut>(
    listener: &TcpListener,
    open: &OpenConnections,
    served: &Arc<Served<S>>,
    shutdown: &CancellationToken,
    abort: &CancellationToken,
    deadlines: Deadlines,
    connections: &TaskTracker,
) {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        let next = async {
            let place = open.place().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = shutdown.cancelled() => return,
            next = next => next,
        };
        let stream: TcpStream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually "too many open files": other connections must close before a new one can be accepted.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(backoff.next()).await;
                continue;
            }
        };
        backoff.reset();
        let (state, place) = open.register(place, shutdown);
        let bounds = Bounds { deadlines, state, shutdown: shutdown.clone(), abort: abort.clone() };
        let serving = connection::serve(stream, served.clone(), bounds);
        connections.spawn(async move {
            serving.await;
            drop(place);
        });
    }
}
