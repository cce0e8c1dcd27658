//! `serve`: publishing to a Redis stream, and everything else to the aggregators.

use std::sync::Arc;

use sluice_log::redis::{RedisWriter, WriterSettings};
use sluice_service::deadlines::Deadlines;
use sluice_service::{metrics, probes, problem, server, shutdown};

use crate::settings::ServeSettings;
use crate::{Publisher, forward, router};

/// Runs until SIGTERM or Ctrl-C; then answers what is in hand. Starts without Redis and without
/// aggregators: what needs them is answered 503 until they are there.
///
/// # Errors
/// When the address is taken or a URL cannot be one.
pub async fn run(settings: ServeSettings) -> anyhow::Result<()> {
    let stop = shutdown::on_signal();
    let metrics = metrics::install();
    let log = RedisWriter::new(WriterSettings {
        url: settings.redis_url,
        prefix: settings.stream_prefix,
        streams: settings.streams,
        idempotency_ttl: settings.idempotency_ttl,
    })?;
    let publisher = Publisher::start(Arc::new(log), &settings.ingest);
    // Ready also without Redis: a client then gets a 503 that says so, not a refused connection.
    let probes = probes::router(metrics, || Box::pin(async { Ok(()) }));
    let router = router(publisher.clone()).merge(probes);
    let router = match settings.query_url {
        Some(url) => router.fallback_service(forward::router(&url)),
        None => router.fallback(problem::not_found),
    };
    let listener = server::bind(&settings.listen.to_string()).await?;
    server::run_with_shortcut(listener, router, publisher, stop, Deadlines::usual(settings.shutdown_timeout)).await
}
