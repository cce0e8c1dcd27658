//! Turns SIGTERM and SIGINT into a cancellation token for everything that must stop.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// Returns a token that is cancelled by the first SIGTERM or SIGINT. A further SIGTERM has no effect. A further
/// SIGINT ends the process at once with exit code 1, so that a user who presses Ctrl-C again need not wait for
/// requests in flight.
///
/// Must be called within the runtime.
pub fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let (terminate, interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "cannot listen to signals: the process will stop without finishing requests in flight");
            return token;
        }
    };
    tokio::spawn(listen(terminate, interrupt, token.clone()));
    token
}

async fn listen(mut terminate: Signal, mut interrupt: Signal, token: CancellationToken) {
    let signal = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal, "stopping");
    token.cancel();
    interrupt.recv().await;
    tracing::warn!("interrupted again: stopping at once");
    telemetry::flush();
    std::process::exit(1);
}
