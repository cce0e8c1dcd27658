//! `serve`: publishes to a Redis stream, and forwards everything else to the aggregators.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::Uri;
use sluice_log::redis::{RedisWriter, WriterSettings};
use sluice_service::durability::Requirement;
use sluice_service::encryption::Encryption;
use sluice_service::guard::SharedGuard;
use sluice_service::monitoring::Monitoring;
use sluice_service::options::ServeOptions;
use sluice_service::probes::Readiness;
use sluice_service::trace::Systems;
use sluice_service::{metrics, problem, server, shutdown};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::outcome::{AskAggregators, OutcomeSource};
use crate::publisher::Publisher;
use crate::settings::ServeSettings;
use crate::{forward, https_args, ingest, query_auth};

/// How long an append waits for replicas. Then it is repeated until `--append-timeout`, by which time there may be
/// another primary or other replicas.
const MAX_REPLICAS_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or Ctrl-C; then finishes the requests in flight. Starts without Redis and
/// without aggregators: requests that need them are answered 503 until they can be reached.
///
/// # Errors
/// When the address is taken, a URL cannot be one, or the tokens cannot be read.
pub async fn run(settings: ServeSettings) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal();
    let listener = server::bind(&settings.listen.to_string()).await?;
    let guard = settings.auth.guard(settings.listen)?;
    // It stores nothing itself.
    let systems = Systems { log: "redis", streams: settings.stream_prefix.clone(), store: "" };
    let traces = settings.traces.clone();
    traces.while_running("sluice-publisher", systems, serve(listener, settings, shutdown, guard)).await
}

/// Returns, and logs, whether what is sent to the aggregators at a URL can be read on the network.
fn encryption(url: &Uri) -> Encryption {
    let encryption = Encryption::of("aggregators");
    encryption.record(https_args::transport(url));
    encryption
}

/// Serves on a listener until `shutdown` is cancelled. Every request passes the guard first.
///
/// # Errors
/// When the URL of Redis cannot be one, a file of TLS cannot be used, or the address of the metrics is taken.
pub async fn serve(
    listener: TcpListener,
    settings: ServeSettings,
    shutdown: CancellationToken,
    guard: SharedGuard,
) -> anyhow::Result<()> {
    let metrics = metrics::install();
    let tls = settings.listener.tls().map_err(anyhow::Error::msg)?;
    let origins = settings.auth.origins();
    let log = RedisWriter::new(WriterSettings {
        tls: settings.redis_tls.files(),
        sentinel: settings.redis_tls.sentinel(),
        url: settings.redis_url,
        prefix: settings.stream_prefix,
        streams: settings.streams,
        idempotency_ttl: settings.idempotency_ttl,
        idempotency_memory: settings.idempotency_memory,
        replicas: settings.redis_replicas,
        // Less than the requests wait, so that they get the reason.
        replicas_timeout: settings.ingest.append_timeout.mul_f64(0.8).min(MAX_REPLICAS_TIMEOUT),
    })?;
    let requirement = Requirement {
        servers: vec![log.durability()],
        encryption: [Some(log.encryption()), settings.query_url.as_ref().map(encryption)]
            .into_iter()
            .flatten()
            .collect(),
        require: settings.require_durable,
        accept_unknown: settings.accept_unknown_durability,
    };
    let query_tls = Arc::new(settings.query_tls.tls());
    let client = forward::client(&query_tls);
    let asked = settings.query_url.clone().map(|base| AskAggregators { client: client.clone(), base });
    let outcomes = asked.map(|aggregators| Arc::new(aggregators) as Arc<dyn OutcomeSource>);
    let publisher = Publisher::start(Arc::new(log), &settings.ingest, &settings.dedup_fields, outcomes);
    // Ready without Redis too: a client then gets a 503 with the reason, not a refused connection.
    let published = publisher.clone();
    let ready = move || {
        let notes = requirement.check().map(|notes| notes.into_iter().chain(published.schema_notes()).collect());
        Box::pin(std::future::ready(notes)) as BoxFuture<'static, Readiness>
    };
    let monitoring = Monitoring::bind(settings.listener.metrics_listen, metrics, ready).await?;
    let router = ingest::router(publisher.clone()).merge(monitoring.routes());
    let router = match settings.query_url {
        Some(url) => {
            tokio::spawn(query_auth::compare(client.clone(), url.clone(), guard.is_some(), shutdown.clone()));
            router.fallback_service(forward::router(&url, client, query_tls, shutdown.clone()))
        }
        None => router.fallback(problem::not_found),
    };
    let options = ServeOptions::new(settings.shutdown_timeout).guarded_by(guard).open_to(origins).with_tls(tls);
    monitoring.beside(server::run_with_shortcut(listener, router, publisher, shutdown, options)).await
}
