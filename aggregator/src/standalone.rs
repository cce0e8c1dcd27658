//! `standalone`: publisher and aggregator in one process, on SQLite in one folder. The code is the same
//! as in the cluster; only the log and the store differ.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::future::OptionFuture;
use sluice_log::sqlite::{SqliteLog, SqliteSettings as LogSettings};
use sluice_publisher::Publisher;
use sluice_publisher::outcome::OutcomeSource;
use sluice_service::durability::Requirement;
use sluice_service::guard::SharedGuard;
use sluice_service::monitoring::Monitoring;
use sluice_service::options::ServeOptions;
use sluice_service::trace::Systems;
use sluice_service::{metrics, server, shutdown};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiState};
use crate::demo;
use crate::ready::ready;
use crate::replica::consumer::Consumer;
use crate::replica::housekeeping::PARTITIONS_EVERY;
use crate::replica::intake::BatchLimits;
use crate::replica::{ReplicaSettings, aggregate};
use crate::settings::StandaloneSettings;
use crate::{meters_file, schema_notice, schemas_file};
use sluice_store::CommitOptions;
use sluice_store::sqlite::{SqliteSettings, SqliteStore};

/// No other consumer reads this log, so entries are never claimed: any value does.
const CLAIM_AFTER: Duration = Duration::from_secs(60);
/// The default of `--batch-events`. Keys are random, so each event changes a page anywhere in the key's
/// index, and a page that one transaction changes several times is written once: large transactions write
/// fewer pages per event.
const BATCH_EVENTS: u64 = 10_000;

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// When the address or the folder is taken, the settings contradict the stored events, or events that
/// were accepted could not be stored within the shutdown timeout.
pub async fn standalone(settings: StandaloneSettings) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal();
    let listen = settings.listen;
    let guard = settings.auth.guard(listen)?;
    let traces = settings.traces.clone();
    let standalone = Standalone::open(settings).await?;
    let listener = server::bind(&listen.to_string()).await?;
    let systems = Systems { log: "sqlite", streams: "log".to_owned(), store: "sqlite" };
    traces.while_running("sluice-standalone", systems, standalone.serve(listener, shutdown, guard)).await
}

/// Publisher and aggregator over an opened folder, not serving yet.
pub struct Standalone {
    settings: StandaloneSettings,
    log: Arc<SqliteLog>,
    store: Arc<SqliteStore>,
    options: CommitOptions,
}

impl Standalone {
    /// Opens the log and the store in the folder of the settings, and creates them if they are missing.
    ///
    /// # Errors
    /// When the folder is taken, or the settings contradict the stored events.
    pub async fn open(settings: StandaloneSettings) -> anyhow::Result<Self> {
        let folder = &settings.data;
        let log =
            LogSettings { folder: folder.clone(), idempotency_ttl: settings.rules.idempotency_ttl, max_bytes: None };
        let log = Arc::new(SqliteLog::open(log).await?);
        let store = SqliteSettings {
            dedup_cache_keys: settings.rules.dedup_cache_keys as usize,
            partition_keys: settings.partition_rows,
            filter_memory: settings.filter_memory,
        };
        let store = SqliteStore::open_with(&folder.join("store.db"), &settings.rules.keyer(), &store).await?;
        let options = CommitOptions {
            keyer: settings.rules.keyer(),
            shard: "standalone".to_owned(),
            audit: settings.rules.audit,
            numbering: None,
        };
        Ok(Self { settings, log, store: Arc::new(store), options })
    }

    /// Serves on a listener, and aggregates, until `shutdown` is cancelled. Every request passes the
    /// guard first.
    ///
    /// # Errors
    /// When a file of TLS cannot be used, the address of the metrics is taken, or events that were accepted could not be
    /// stored within the shutdown timeout.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
        guard: SharedGuard,
    ) -> anyhow::Result<()> {
        let Self { settings, log, store, options } = self;
        let metrics = metrics::install();
        let tls = settings.listener.tls().map_err(anyhow::Error::msg)?;
        let origins = settings.auth.origins();
        // The publisher stops first: what it has accepted is stored before the aggregator stops.
        let published = CancellationToken::new();
        let schemas = settings.rules.schemas_file().map_err(anyhow::Error::msg)?;
        // Before the publisher looks for them, so that it accepts nothing unchecked.
        if let Some(schemas) = &schemas {
            schemas_file::put_once(schemas, &*store).await?;
        }
        schema_notice::write(&*store, &*log).await.map_err(anyhow::Error::msg)?;
        let state = ApiState::new(store.clone(), log.clone(), options.clone()).ending_with(shutdown.clone());
        let outcomes = Some(Arc::new(state.outcomes()) as Arc<dyn OutcomeSource>);
        let publisher = Publisher::start(log.clone(), &settings.ingest, &settings.rules.keyer(), outcomes);
        let files = (log.clone(), store.clone());
        let meters = settings.rules.meters_file().map_err(anyhow::Error::msg)?;
        let meters = meters_file::keep(meters, store.clone(), shutdown.clone());
        let schemas = schemas_file::keep(schemas, store.clone(), shutdown.clone());
        let notices = schema_notice::keep(store.clone(), log.clone(), shutdown.clone());
        let overdue = state.watch_overdue(settings.rules.retention, shutdown.clone());
        let beside = async { tokio::join!(meters, schemas, notices, overdue) };
        let (settings, metrics_listen, demo) = (settings.rules, settings.listener.metrics_listen, settings.demo);
        let limits =
            BatchLimits { events: settings.batch_events.unwrap_or(BATCH_EVENTS), linger: settings.batch_linger };
        let consumer = Consumer::new(log.clone(), store.clone(), options, limits, CLAIM_AFTER);
        // SQLite in this process always writes to the disk before it confirms: nothing is to be required of others.
        let requirement = Requirement::default();
        let ready =
            ready(store, log, Arc::new(AtomicBool::new(true)), consumer.commit_watch.clone(), None, requirement);
        let state = state.of_replica(consumer.latency.clone(), Arc::new(ready.clone())).with_page(settings.ui);
        let api = api::router(state);
        let monitoring = Monitoring::bind(metrics_listen, metrics, ready).await?;
        let router = sluice_publisher::router(publisher).merge(api).merge(monitoring.routes());
        let demo = OptionFuture::from(demo.then(|| demo::run(router.clone(), shutdown.clone())));
        let replica_settings = ReplicaSettings {
            workers: 1,
            consumer_ttl: CLAIM_AFTER * 2,
            idempotency_ttl: settings.idempotency_ttl,
            retention: settings.retention,
            series_retention: settings.series_retention,
            conflicts: settings.conflict_limits(),
            shutdown_timeout: settings.shutdown_timeout,
            partitions_every: PARTITIONS_EVERY,
        };
        let aggregating = async {
            aggregate(Arc::new(consumer), replica_settings, published.clone()).await.inspect_err(|_| shutdown.cancel())
        };
        let serving = async {
            let serve_options =
                ServeOptions::new(settings.shutdown_timeout).guarded_by(guard).open_to(origins).with_tls(tls);
            let served = monitoring.beside(server::run(listener, router, shutdown.clone(), serve_options)).await;
            published.cancel();
            served
        };
        let (aggregated, served, ..) = tokio::join!(aggregating, serving, beside, demo);
        close(files, settings.shutdown_timeout).await;
        aggregated.and(served)
    }
}

/// Closes both files, so that the next start need not check them. It is safe not to: only the check takes time.
async fn close((log, store): (Arc<SqliteLog>, Arc<SqliteStore>), timeout: Duration) {
    let closing = async { tokio::join!(log.close(), store.close()) };
    if tokio::time::timeout(timeout, closing).await.is_err() {
        tracing::warn!("the files could not be closed in time");
    }
}
