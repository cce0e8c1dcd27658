//! What maintenance should have done by now is told, also while it cannot do it.

use std::time::Duration;

use sluice_store::{Maintenance, Overdue};

use crate::batches::*;
use crate::stores::{Place, TestStore};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// A test may take so long.
const TOLERANCE: Duration = Duration::from_secs(60);

async fn overdue(test: &TestStore, retention: Duration) -> Overdue {
    test.store.overdue(Some(retention)).await.expect("what is overdue")
}

async fn maintain(test: &TestStore) -> Result<u64, sluice_store::StoreError> {
    let maintenance = Maintenance { receipts_ttl: DAY, retention: Some(DAY), max_duration: Duration::from_secs(5) };
    test.store.maintain(&maintenance).await.map(|removed| removed.events)
}

fn expect_about(time: Option<Duration>, expected: Duration, why: &str) {
    let is_about = time.is_some_and(|time| (expected..expected + TOLERANCE).contains(&time));
    assert!(is_about, "{why}: {time:?}, and not {expected:?}");
}

/// Makes a statement on each row of a table fail, as a trigger of somebody else could.
async fn refuse(test: &TestStore, statement: &str, table: &str) {
    test.run(&match test.place {
        Place::Postgres(_) => format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused''; END'; \
             CREATE TRIGGER refuse BEFORE {statement} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        ),
        Place::Sqlite(_) => {
            format!("CREATE TRIGGER refuse BEFORE {statement} ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END")
        }
    })
    .await;
}

async fn allow(test: &TestStore, table: &str) {
    test.run(&match test.place {
        Place::Postgres(_) => format!("DROP TRIGGER refuse ON {table}; DROP FUNCTION refuse()"),
        Place::Sqlite(_) => "DROP TRIGGER refuse".to_owned(),
    })
    .await;
}

/// The table of which retention deletes rows.
fn removed_from(test: &TestStore) -> &'static str {
    match test.place {
        Place::Postgres(_) if !test.in_one_table => "event_partitions",
        _ => "events",
    }
}

pub async fn events_are_overdue_from_the_end_of_the_retention_until_they_are_removed(test: TestStore) {
    assert_eq!(overdue(&test, DAY).await.events, Some(Duration::ZERO), "there are none");
    test.commit(&batch_of(events(0..10))).await;
    assert_eq!(overdue(&test, DAY).await.events, Some(Duration::ZERO), "they are new");
    test.make_stored_events_older(DAY * 2).await;
    test.commit(&batch_of(events(10..15))).await;
    let without_retention = test.store.overdue(None).await.unwrap();
    assert_eq!((without_retention.events, without_retention.tables), (None, None));
    assert_eq!(overdue(&test, DAY * 3).await.events, Some(Duration::ZERO));
    expect_about(overdue(&test, DAY).await.events, DAY, "maintenance did not run");
    assert_eq!(maintain(&test).await.unwrap(), 10);
    assert_eq!(overdue(&test, DAY).await.events, Some(Duration::ZERO), "they are removed");
}

pub async fn what_cannot_be_removed_is_told_for_as_long_as_it_is_there(test: TestStore) {
    test.commit(&batch_of(events(0..10))).await;
    test.make_stored_events_older(DAY).await;
    // A later mark is older than the retention too.
    test.make_stored_events_older(DAY + DAY / 2).await;
    refuse(&test, "DELETE", removed_from(&test)).await;
    for _ in 0..2 {
        let refused = maintain(&test).await;
        assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("refused")), "{refused:?}");
        expect_about(overdue(&test, DAY).await.events, DAY + DAY / 2, "since the first mark");
    }
    allow(&test, removed_from(&test)).await;
    assert_eq!(maintain(&test).await.unwrap(), 10);
    assert_eq!(overdue(&test, DAY).await.events, Some(Duration::ZERO));

    test.commit(&batch_of(events(10..20))).await;
    test.make_stored_events_older(DAY * 20).await;
    assert_eq!(maintain(&test).await.unwrap(), 10);
    let marks = test.number("SELECT count(*) FROM arrival_marks").await;
    assert_eq!(marks, 2, "the newest one that is older than the retention, the present one, and none of long before");
}

pub async fn a_partition_is_due_until_it_is_closed(test: TestStore) {
    let partitions = if let Place::Postgres(_) = test.place { "event_partitions" } else { "key_partitions" };
    test.commit(&batch_of(events(0..10))).await;
    test.age(partitions, "opened_at", DAY * 2).await;
    if test.in_one_table {
        assert_eq!(overdue(&test, DAY).await.partition, None, "there is none yet");
        return;
    }
    assert_eq!(overdue(&test, DAY * 17).await.partition, None, "an eighth of it is not over");
    assert_eq!(test.store.overdue(None).await.unwrap().partition, None, "without retention its age does not matter");
    let due = overdue(&test, DAY * 8).await.partition;
    expect_about(due.map(|due| due.too_old_for), DAY, "nobody closed it");
    test.store.maintain_partitions(Some(DAY * 8)).await.unwrap();
    let closed = overdue(&test, DAY * 8).await;
    let figures = closed.figures.expect("partitions");
    assert_eq!((closed.partition, figures.partitions, figures.without_filter), (None, 2, 0));
}

pub async fn a_partition_whose_filter_cannot_be_built_is_counted(test: TestStore) {
    if test.in_one_table {
        return;
    }
    let (partitions, filters) = match test.place {
        Place::Postgres(_) => ("event_partitions", "event_filters"),
        Place::Sqlite(_) => ("key_partitions", "key_filters"),
    };
    test.commit(&batch_of(events(0..10))).await;
    test.age(partitions, "opened_at", DAY * 2).await;
    refuse(&test, "INSERT", filters).await;
    let without_filter = async || overdue(&test, DAY).await.figures.expect("partitions").without_filter;
    assert_eq!(without_filter().await, 0, "none is closed");
    let refused = test.store.maintain_partitions(Some(DAY)).await;
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("refused")), "{refused:?}");
    assert_eq!(without_filter().await, 1, "it is closed, and has none");
    allow(&test, filters).await;
    test.store.maintain_partitions(Some(DAY)).await.unwrap();
    assert_eq!(without_filter().await, 0);
}
