//! `run`: one replica on Redis and PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_log::LogReader;
use sluice_log::redis::{ReaderSettings, RedisReader};
use sluice_service::backoff::Backoff;
use sluice_service::durability::Requirement;
use sluice_service::monitoring::Monitoring;
use sluice_service::options::ServeOptions;
use sluice_service::trace::Systems;
use sluice_service::{metrics, server, shutdown};
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiState};
use crate::ready::ready;
use crate::replica::consumer::{Consumer, pause};
use crate::replica::failover::Failover;
use crate::replica::housekeeping::PARTITIONS_EVERY;
use crate::replica::intake::BatchLimits;
use crate::replica::name_check::warn_if_name_is_used;
use crate::replica::{ReplicaSettings, aggregate};
use crate::settings::{PostgresArgs, RunSettings};
use crate::{meters_file, schema_notice, schemas_file};
use sluice_store::CommitOptions;
use sluice_store::StoreError;
use sluice_store::postgres::{self, PostgresSettings, PostgresStore};

/// The default of `--batch-events`. Larger transactions store no more events per second.
const BATCH_EVENTS: u64 = 2_400;

/// Runs until SIGTERM.
///
/// # Errors
/// When the address is taken, the settings contradict the stored events, or the entries in flight could
/// not be stored within the shutdown timeout.
pub async fn run(settings: RunSettings) -> anyhow::Result<()> {
    let systems = Systems { log: "redis", streams: settings.stream_prefix.clone(), store: "postgresql" };
    let traces = settings.traces.clone();
    traces.while_running("sluice-aggregator", systems, run_until_stopped(settings)).await
}

async fn run_until_stopped(settings: RunSettings) -> anyhow::Result<()> {
    let stop = shutdown::on_signal();
    let metrics = metrics::install();
    let tls = settings.listener.tls().map_err(anyhow::Error::msg)?;
    let meters = settings.rules.meters_file().map_err(anyhow::Error::msg)?;
    let schemas = settings.rules.schemas_file().map_err(anyhow::Error::msg)?;
    let name = settings.consumer_name();
    let store = Arc::new(PostgresStore::connect(&postgres_settings(&settings, &name))?);
    let log = RedisReader::new(ReaderSettings {
        url: settings.redis_url.clone(),
        tls: settings.redis_tls.files(),
        sentinel: settings.redis_tls.sentinel(),
        prefix: settings.stream_prefix.clone(),
        streams: settings.streams,
        consumer: name.clone(),
        replay_window: settings.replay_window(),
        replay_window_bytes: settings.replay_window_bytes,
    })?;
    let requirement = Requirement {
        servers: vec![log.durability(), store.durability()],
        encryption: vec![log.encryption(), store.encryption()],
        require: settings.require_durable,
        accept_unknown: settings.accept_unknown_durability.clone(),
    };
    let log = Arc::new(log);
    let (window, receipts_ttl) = (settings.replay_window(), settings.rules.idempotency_ttl);
    let failover = Arc::new(Failover::new(log.clone(), store.clone(), window, receipts_ttl));
    let log: Arc<dyn LogReader> = log;
    let options = commit_options(&settings, &name);
    let notices = log.clone();

    let migrated = Arc::new(AtomicBool::new(false));
    let state = ApiState::new(store.clone(), log.clone(), options.clone()).ending_with(stop.clone());
    let overdue = state.watch_overdue(settings.rules.retention, stop.clone());
    let (events, linger) = (settings.rules.batch_events.unwrap_or(BATCH_EVENTS), settings.rules.batch_linger);
    let limits = BatchLimits { events, linger };
    let consumer = Consumer::new(log.clone(), store.clone(), options, limits, settings.claim_after)
        .with_failover(failover.clone());
    let ready = ready(store.clone(), log, migrated.clone(), consumer.commit_watch.clone(), Some(failover), requirement);
    let api = state.of_replica(consumer.latency.clone(), Arc::new(ready.clone())).with_page(settings.rules.ui);
    let monitoring = Monitoring::bind(settings.listener.metrics_listen, metrics, ready).await?;
    let listener = server::bind(&settings.listen.to_string()).await?;
    let guard = settings.auth.guard(settings.listen)?;

    let meters = meters_file::keep(meters, store.clone(), stop.clone());
    let schemas = schemas_file::keep(schemas, store.clone(), stop.clone());
    let notices = schema_notice::keep(store.clone(), notices, stop.clone());
    let beside = async { tokio::join!(meters, schemas, notices, overdue) };
    let replica_settings = replica_settings(&settings);
    let aggregating = async {
        let done = async {
            if migrate_when_reachable(&store, &stop).await? {
                migrated.store(true, Ordering::Release);
                warn_if_name_is_used(&*consumer.log, &name, &stop).await;
                aggregate(Arc::new(consumer), replica_settings, stop.clone()).await?;
            }
            anyhow::Ok(())
        };
        // When aggregating fails, the server stops too, and the process ends.
        done.await.inspect_err(|_| stop.cancel())
    };
    let options = ServeOptions::new(settings.rules.shutdown_timeout)
        .guarded_by(guard)
        .open_to(settings.auth.origins())
        .with_tls(tls);
    let router = api::router(api).merge(monitoring.routes());
    let serving = monitoring.beside(server::run(listener, router, stop.clone(), options));
    let (aggregated, served, _) = tokio::join!(aggregating, serving, beside);
    aggregated.and(served)
}

fn replica_settings(settings: &RunSettings) -> ReplicaSettings {
    ReplicaSettings {
        workers: settings.workers,
        consumer_ttl: settings.consumer_ttl.max(settings.claim_after * 2),
        idempotency_ttl: settings.rules.idempotency_ttl,
        retention: settings.rules.retention,
        series_retention: settings.rules.series_retention,
        conflicts: settings.rules.conflict_limits(),
        shutdown_timeout: settings.rules.shutdown_timeout,
        partitions_every: PARTITIONS_EVERY,
    }
}

/// `migrate`: creates or upgrades the tables.
///
/// # Errors
/// When PostgreSQL cannot be reached or refuses a statement.
pub async fn migrate(args: &PostgresArgs) -> anyhow::Result<()> {
    let settings = PostgresSettings {
        url: args.database_url.clone(),
        password_file: args.database_password_file.clone(),
        require_tls: args.require_tls,
        schema: args.database_schema.clone(),
        payload_type: args.payload_type,
        ..PostgresSettings::default()
    };
    postgres::migrate(&settings).await?;
    tracing::info!(schema = args.database_schema, "the tables are up to date");
    Ok(())
}

/// Creates or upgrades the tables as soon as PostgreSQL answers. Returns false when `stop` came first.
async fn migrate_when_reachable(store: &PostgresStore, stop: &CancellationToken) -> Result<bool, StoreError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        // Dropping it closes the connection, and the server ends the migration.
        let migrated = tokio::select! {
            migrated = store.migrate() => migrated,
            () = stop.cancelled() => return Ok(false),
        };
        match migrated {
            Ok(()) => return Ok(true),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_) | StoreError::TooSlow(_))) => {
                tracing::warn!(%error, "cannot prepare the tables yet, trying again");
            }
            Err(error) => return Err(error),
        }
        if !pause(backoff.next(), stop).await {
            return Ok(false);
        }
    }
}

fn commit_options(settings: &RunSettings, replica: &str) -> CommitOptions {
    CommitOptions {
        keyer: settings.rules.keyer(),
        shard: replica.to_owned(),
        audit: settings.rules.audit,
        numbering: None,
    }
}

fn postgres_settings(settings: &RunSettings, replica: &str) -> PostgresSettings {
    PostgresSettings {
        url: settings.postgres.database_url.clone(),
        password_file: settings.postgres.database_password_file.clone(),
        require_tls: settings.postgres.require_tls,
        schema: settings.postgres.database_schema.clone(),
        payload_type: settings.postgres.payload_type,
        // One more for claimed entries, and one for the dead letter that is being replayed.
        workers: u32::from(settings.workers) + 2,
        claim_after: settings.claim_after,
        keyer: settings.rules.keyer(),
        dedup_cache_keys: settings.rules.dedup_cache_keys as usize,
        partition_rows: settings.partitions.partition_rows,
        filter_memory: settings.partitions.filter_memory,
        replica: replica.to_owned(),
        ..PostgresSettings::default()
    }
}
