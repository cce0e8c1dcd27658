//! SIGTERM and SIGINT → a token that everything which must stop listens to.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second one ends the process at
/// once with exit code 1: somebody does not want to wait for the drain.
///
/// Must be called within the runtime.
pub fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let (terminate, interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "cannot listen to signals: the process will stop without draining");
            return token;
        }
    };
    tokio::spawn(listen(terminate, interrupt, token.clone()));
    token
}

async fn listen(mut terminate: Signal, mut interrupt: Signal, token: CancellationToken) {
    let mut received = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let signal = received().await;
    tracing::info!(signal, "stopping");
    token.cancel();
    let signal = received().await;
    tracing::warn!(signal, "stopping at once");
    std::process::exit(1);
}
