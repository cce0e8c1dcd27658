//! Sends the same requests to the services that store one event per transaction.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use sluice_tests::dirs;

use super::{Delivery, Expected, Store};
use crate::load::events::Workload;
use crate::report::figures::{Figures, Group, RATE};
use crate::system::per_event::Service;
use crate::system::servers::Servers;
use crate::watch::cpu::{Reading, Watched};
use crate::watch::memory;

/// Measures the service with FastAPI, a Redis list and PostgreSQL.
pub async fn redis_postgres(
    servers: &Servers,
    python: &Path,
    workload: &Arc<Workload>,
    connections: usize,
    schema: &str,
) -> anyhow::Result<Figures> {
    servers.empty_redis().await?;
    servers.create_schema(schema).await?;
    servers.checkpoint().await?;
    let database = format!("{}?search_path={schema}", servers.postgres.url());
    let settings = [("REDIS_URL", servers.redis.url()), ("DATABASE_URL", database)];
    let service = Service::start(python, "redis_postgres", 1, &settings).await?;
    let store = Store::Postgres(servers.postgres().await?);
    let watched = [service.watched(), Watched::redis(servers), Watched::postgres(servers), Watched::ourselves()];
    let delivery = Delivery::of_service(&format!("\"{schema}\"."));
    let figures = measure(&service, store, &delivery, &watched, workload, connections).await?;
    service.stop().await?;
    servers.drop_schema(schema).await?;
    Ok(figures)
}

/// Measures the service with FastAPI, an `asyncio.Queue` and SQLite.
pub async fn sqlite(python: &Path, workload: &Arc<Workload>, connections: usize) -> anyhow::Result<Figures> {
    let file = dirs::fresh("per_event").join("events.db");
    let service = Service::start(python, "queue_sqlite", 1, &[("DATABASE", file.display().to_string())]).await?;
    let store = Store::sqlite(&file).await?;
    let watched = [service.watched(), Watched::ourselves()];
    let figures = measure(&service, store, &Delivery::of_service(""), &watched, workload, connections).await?;
    service.stop().await?;
    Ok(figures)
}

/// Sends the workload to a service, checks that it was stored exactly, and returns figures. The service is the first of
/// the processes that are watched.
pub(super) async fn measure(
    service: &Service,
    mut store: Store,
    delivery: &Delivery,
    watched: &[Watched],
    workload: &Arc<Workload>,
    connections: usize,
) -> anyhow::Result<Figures> {
    let expected = Expected::default().and(workload);
    let before = Reading::of(watched)?;
    let course = delivery.deliver(&mut store, &service.address, workload, connections, expected).await;
    let course = course.with_context(|| service.log_tail())?;
    let spent = Reading::of(watched)?.since(&before);
    delivery.check(&mut store, expected).await?;
    let mut figures = Figures::default();
    figures.add(Group::Rate, RATE, workload.events as f64 / 1000.0 / course.seconds);
    spent.report(&mut figures, watched, workload.events);
    figures.add(Group::Resident, "service", memory::peak_mib(&watched[0])?);
    Ok(figures)
}
