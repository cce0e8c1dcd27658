//! Sends requests of 100 events to the service that stores each request in one transaction.

use std::path::Path;
use std::sync::Arc;

use super::per_event::measure;
use super::{Delivery, Store};
use crate::load::events::Workload;
use crate::report::figures::{Figures, Group, RATE};
use crate::system::per_event::Service;
use crate::system::servers::Servers;
use crate::watch::cpu::Watched;

/// The numbers of processes, of which the faster one counts. A process of the service uses one core, and shares the
/// machine with PostgreSQL and the load generator, so it depends on the machine how many are best.
const PROCESSES: [(usize, &str); 2] = [(1, "1 process, k events/s"), (2, "2 processes, k events/s")];

/// Measures the service with each number of processes on an empty schema. Returns the figures of the faster one, and
/// both rates.
pub async fn run(
    servers: &Servers,
    python: &Path,
    workload: &Arc<Workload>,
    connections: usize,
    name: &str,
) -> anyhow::Result<Figures> {
    let mut faster = Figures::default();
    let mut rates = Figures::default();
    for (processes, title) in PROCESSES {
        let schema = format!("{name}_{processes}");
        let figures = with_processes(servers, python, workload, connections, &schema, processes).await?;
        let rate = |figures: &Figures| figures.get(Group::Rate, RATE).unwrap_or_default();
        rates.add(Group::Rate, title, rate(&figures));
        if rate(&figures) > rate(&faster) {
            faster = figures;
        }
    }
    faster.0.append(&mut rates.0);
    Ok(faster)
}

async fn with_processes(
    servers: &Servers,
    python: &Path,
    workload: &Arc<Workload>,
    connections: usize,
    schema: &str,
    processes: usize,
) -> anyhow::Result<Figures> {
    servers.create_schema(schema).await?;
    servers.checkpoint().await?;
    let database = format!("{}?search_path={schema}", servers.postgres.url());
    let service = Service::start(python, "batched_postgres", processes, &[("DATABASE_URL", database)]).await?;
    let store = Store::Postgres(servers.postgres().await?);
    let watched = [service.watched(), Watched::postgres(servers), Watched::ourselves()];
    let delivery = Delivery::of_batched_service(&format!("\"{schema}\"."));
    let figures = measure(&service, store, &delivery, &watched, workload, connections).await?;
    service.stop().await?;
    servers.drop_schema(schema).await?;
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;

    use super::*;
    use crate::scenarios::Expected;

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_count_only_where_the_statistics_of_their_topic_are_exact() {
        let servers = Servers::start().await.unwrap();
        let mut connection = servers.postgres().await.unwrap();
        let tables = "
            CREATE SCHEMA peer;
            CREATE TABLE peer.events AS SELECT 'topic ' || n % 2 AS topic FROM generate_series(1, 20) n;
            CREATE TABLE peer.stats AS
            SELECT topic, 15 AS received, 10 AS unique_processed, 5 AS duplicate_dropped
            FROM unnest(ARRAY['topic 0', 'topic 1']) topic";
        connection.execute(tables).await.unwrap();
        let mut store = Store::Postgres(servers.postgres().await.unwrap());
        let delivery = Delivery::of_batched_service("peer.");
        let expected = Expected { received: 30, unique: 20, duplicates: 10, conflicts_and_dead_letters: 0 };
        delivery.check(&mut store, expected).await.unwrap();
        // The sums stay the same: one topic has one too many, and the other one too few.
        let swap = "UPDATE peer.stats SET unique_processed = CASE topic WHEN 'topic 0' THEN 9 ELSE 11 END,
                                          duplicate_dropped = CASE topic WHEN 'topic 0' THEN 6 ELSE 4 END";
        connection.execute(swap).await.unwrap();
        assert_eq!(delivery.now(&mut store).await.unwrap(), expected);
        let error = delivery.check(&mut store, expected).await.unwrap_err();
        assert!(error.to_string().contains("0 rows instead of 20"), "{error:#}");
    }
}
