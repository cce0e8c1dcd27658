//! Aggregators are killed while they close partitions of events and build filters, filters are damaged, and a standby is
//! promoted that has a closed partition and not its filter.

use std::time::Duration;

use sluice_tests::postgres::PostgresServer;
use sluice_tests::store::StoreAddress;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::failover::{ALL, kill_primary, postgres_mut, repaired, standby_of, stop_replication};
use crate::trial::{SOON, Trial, cluster};

/// A step of an aggregator, the lock that holds it up, and the lock that it waits for.
const STEPS: [(&str, &str, &str); 2] = [
    ("closes a partition", "LOCK TABLE receipts IN ROW EXCLUSIVE MODE", "ShareRowExclusiveLock"),
    ("builds a filter", "LOCK TABLE event_filters IN SHARE MODE", "RowExclusiveLock"),
];

/// Returns a connection in the schema of the store.
async fn connect(trial: &Trial) -> PgConnection {
    let StoreAddress::Postgres { url, schema } = &trial.system.store else { unreachable!("it is in PostgreSQL") };
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(format!("SET search_path = \"{schema}\""))).await.unwrap();
    connection
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// Closed partitions that have no filter.
const WITHOUT_FILTER: &str = "SELECT count(*) FROM event_partitions WHERE closed_at IS NOT NULL AND filter IS NULL";

async fn all_filters_are_built(trial: &Trial) {
    wait_until("all filters are built", SOON, || async {
        let missing = number(&mut connect(trial).await, WITHOUT_FILTER).await;
        holds(missing == 0, || format!("{missing} are missing"))
    })
    .await;
}

/// Returns a connection to a standby, in the schema of the store.
async fn connect_to(standby: &PostgresServer, trial: &Trial) -> PgConnection {
    let StoreAddress::Postgres { schema, .. } = &trial.system.store else { unreachable!("it is in PostgreSQL") };
    let mut connection = PgConnection::connect(&standby.url()).await.unwrap();
    connection.execute(AssertSqlSafe(format!("SET search_path = \"{schema}\""))).await.unwrap();
    connection
}

/// Returns the aggregator that waits for this lock, in a step of its maintenance.
async fn waiting(trial: &Trial, observer: &mut PgConnection, mode: &str) -> Option<usize> {
    let select = sqlx::query_scalar::<_, String>(
        "SELECT substring(application_name FROM '[^/]*$') FROM pg_locks JOIN pg_stat_activity USING (pid) \
         WHERE NOT granted AND mode = $1 AND starts_with(application_name, 'sluice ') \
           AND (query ~ 'LOCK TABLE ONLY receipts IN SHARE ROW' OR query ~ '^INSERT INTO event_filters')",
    );
    let name = select.bind(mode).fetch_optional(observer).await.unwrap()?;
    trial.system.aggregators.iter().position(|aggregator| aggregator.name() == name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregators_killed_while_they_close_partitions_and_build_filters_lose_and_repeat_nothing() {
    let setup = cluster().await.env("SLUICE_PARTITION_ROWS", "500");
    let mut trial = Trial::begin_unseen("kill -9 while partitions are closed and filters are built", setup).await;
    let mut stream = trial.system.stream().await;
    let (mut holder, mut observer) = (connect(&trial).await, connect(&trial).await);
    for _ in 0..2 {
        for (step, lock, mode) in STEPS {
            // An aggregator gives a step up if it waits for long, and tries again later.
            let (aggregator, pending) = loop {
                holder.execute(AssertSqlSafe(format!("BEGIN; {lock}"))).await.unwrap();
                let mut found = None;
                for _ in 0..40 {
                    let pending = stream.pending().await.unwrap();
                    found = waiting(&trial, &mut observer, mode).await.filter(|_| pending > 0).map(|at| (at, pending));
                    if found.is_some() {
                        break;
                    }
                    trial.load.more(50).await;
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                if let Some((aggregator, pending)) = found {
                    trial.system.aggregators[aggregator].kill();
                    break (aggregator, pending);
                }
                holder.execute("COMMIT").await.unwrap();
            };
            holder.execute("COMMIT").await.unwrap();
            trial.fault(pending);
            println!("killed {aggregator} while it {step}, with {pending} entries pending");
            trial.load.more(1_000).await;
            trial.system.aggregators[aggregator].start().await;
        }
        // Bits of all filters change on the disk, and the replicas that start again read them.
        observer
            .execute("UPDATE event_filters SET content = set_byte(content, 90, 255 - get_byte(content, 90))")
            .await
            .unwrap();
        for aggregator in &mut trial.system.aggregators {
            aggregator.kill();
            aggregator.start().await;
        }
        trial.load.more(1_000).await;
    }
    all_filters_are_built(&trial).await;
    let partitions = number(&mut observer, "SELECT count(*) FROM event_partitions").await;
    assert!(partitions > 5, "{partitions} partitions");
    trial.end().await;
}

/// The replicas have the filter of that partition in memory, and the filters of partitions that the standby has never
/// had. It uses their numbers again, for other events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_promoted_between_the_closing_of_a_partition_and_its_filter_loses_and_repeats_nothing() {
    let setup = cluster().await.env("SLUICE_PARTITION_ROWS", "500");
    let standby = standby_of(&setup);
    let what = "a standby is promoted between the closing of a partition and the building of its filter";
    let mut trial = Trial::begin_unseen(what, setup).await;
    let (mut holder, mut primary) = (connect(&trial).await, connect(&trial).await);
    let mut observer = connect_to(&standby, &trial).await;

    // Nobody can store a filter while this lock is held.
    let [_, (_, lock, _)] = STEPS;
    holder.execute(AssertSqlSafe(format!("BEGIN; {lock}"))).await.unwrap();
    while number(&mut observer, WITHOUT_FILTER).await == 0 {
        trial.load.more(100).await;
    }
    let received = stop_replication(&standby, &trial.system).await;
    let without_filter = number(&mut observer, WITHOUT_FILTER).await;
    let partitions = "SELECT count(*) FROM event_partitions";
    let on_standby = number(&mut observer, partitions).await;
    holder.execute("COMMIT").await.unwrap();
    while number(&mut primary, partitions).await < on_standby + 3 {
        trial.load.more(100).await;
    }
    all_filters_are_built(&trial).await;
    let on_primary = number(&mut primary, partitions).await;
    println!(
        "{on_primary} partitions, of which the standby has {on_standby}, {without_filter} of them without a filter"
    );
    drop((holder, primary, observer));

    kill_primary(&mut trial, received, 500, &ALL).await;
    postgres_mut(&mut trial.system).fail_over_to(standby);
    trial.load.more(500).await;
    repaired(&trial.system).await;
    let mut promoted = connect(&trial).await;
    while number(&mut promoted, partitions).await < on_primary {
        trial.load.more(100).await;
    }
    all_filters_are_built(&trial).await;
    // A filter that lacks a key would let its event be stored again.
    trial.load.repeat_all().await;
    trial.end().await;
}
