//! Groups of closed partitions that share a filter.

use std::time::Duration;

use sluice_store::PartitionFigures;

use super::event_partitions::{
    another_replica, expect_duplicates, fill, maintain, maintain_partitions, settings, with_partitions_of,
};
use crate::batches::*;
use crate::stores::{TestStore, direct};

/// Returns a text that the database has.
async fn text(test: &TestStore, sql: &'static str) -> String {
    sqlx::query_scalar(sql).fetch_one(&mut direct(settings(test)).await).await.expect(sql)
}

/// Returns the spans of the complete groups, as text.
async fn groups(test: &TestStore) -> String {
    text(
        test,
        "SELECT coalesce(string_agg(first_partition || '-' || last_partition, ' ' ORDER BY first_partition), 'none') \
         FROM event_filter_groups WHERE is_complete",
    )
    .await
}

/// Returns the number of filters that have segments, and of those that have no partition and no group.
async fn filters(test: &TestStore) -> (i64, i64) {
    let owned = "SELECT filter FROM event_partitions UNION ALL SELECT filter FROM event_filter_groups";
    let orphans = format!(
        "SELECT count(DISTINCT filter) FROM event_filters \
         WHERE filter NOT IN (SELECT filter FROM ({owned}) AS o WHERE filter IS NOT NULL)"
    );
    (test.number("SELECT count(DISTINCT filter) FROM event_filters").await, test.number(&orphans).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_partitions_share_a_filter_and_eight_such_groups_a_larger_one() {
    let test = with_partitions_of(10).await;
    fill(&test, 7).await;
    assert_eq!(groups(&test).await, "none");
    for partitions in 7..65 {
        test.commit(&batch_of(events(partitions * 10..partitions * 10 + 10))).await;
        maintain_partitions(&test).await;
        match partitions + 1 {
            8 => assert_eq!(groups(&test).await, "1-8"),
            63 => assert_eq!(groups(&test).await, "1-8 9-16 17-24 25-32 33-40 41-48 49-56"),
            64 => assert_eq!(groups(&test).await, "1-64"),
            _ => {}
        }
    }
    assert_eq!(groups(&test).await, "1-64");
    assert_eq!(filters(&test).await, (66, 0), "one of each partition and one of the group");
    for replica in [&test, &another_replica(&test).await] {
        maintain_partitions(replica).await;
        expect_duplicates(replica, 0..650, "in the group and outside").await;
    }
    // A filter of 8 bits takes one of 256 other keys for one that it has; group and partition together one of 65,536.
    let before = figures(&test).await;
    test.commit(&batch_of(events(1_000..3_000))).await;
    let after = figures(&test).await;
    let in_vain = (after.keys_looked_up - before.keys_looked_up) - (after.keys_found - before.keys_found);
    assert!(in_vain < 100, "{in_vain} look-ups in vain for 2,000 new keys in 65 partitions");
}

async fn figures(test: &TestStore) -> PartitionFigures {
    test.store.maintain_partitions(None).await.expect("maintenance").expect("partitions")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_filter_of_a_group_is_noticed_and_built_again() {
    let test = with_partitions_of(10).await;
    fill(&test, 8).await;
    let of_group = "filter IN (SELECT filter FROM event_filter_groups)";
    for damage in [
        format!(
            "UPDATE event_filters SET content = set_byte(content, 100, 255 - get_byte(content, 100)) WHERE {of_group}"
        ),
        format!("DELETE FROM event_filters WHERE {of_group}"),
        // The sound filter of a partition in its place.
        format!(
            "UPDATE event_filters SET content = (SELECT content FROM event_filters WHERE NOT {of_group} LIMIT 1) WHERE {of_group}"
        ),
    ] {
        let before = text(&test, "SELECT filter::text FROM event_filter_groups").await;
        test.run(&damage).await;
        let other = another_replica(&test).await;
        expect_duplicates(&other, 0..80, &damage).await;
        maintain_partitions(&other).await;
        expect_duplicates(&another_replica(&test).await, 0..80, &damage).await;
        assert_eq!(groups(&test).await, "1-8", "{damage}");
        assert_ne!(text(&test, "SELECT filter::text FROM event_filter_groups").await, before, "{damage}");
        assert_eq!(filters(&test).await, (9, 0), "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_of_a_group_that_a_killed_replica_has_begun_is_completed_by_another() {
    let test = with_partitions_of(10).await;
    fill(&test, 7).await;
    test.commit(&batch_of(events(70..80))).await;
    // A replica has begun the group, and has stored a part of another one, of which a partition was removed since.
    test.run(
        "INSERT INTO event_filter_groups (filter, level, first_partition, last_partition, keys, segments) VALUES \
             ('00000000-0000-0000-0000-000000000001', 1, 1, 8, 80, 0), \
             ('00000000-0000-0000-0000-000000000002', 1, 0, 7, 80, 1); \
         INSERT INTO event_filters VALUES ('00000000-0000-0000-0000-000000000002', 0, 'begun')",
    )
    .await;
    maintain_partitions(&test).await;
    assert_eq!(groups(&test).await, "1-8");
    let begun = "SELECT filter::text FROM event_filter_groups";
    assert_eq!(text(&test, begun).await, "00000000-0000-0000-0000-000000000001", "it was not begun anew");
    assert_eq!(filters(&test).await, (9, 0));
    expect_duplicates(&another_replica(&test).await, 0..80, "with the filter of the group").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_removed_with_its_last_partition() {
    let test = with_partitions_of(10).await;
    fill(&test, 8).await;
    test.make_stored_events_older(Duration::from_secs(2 * 24 * 3_600)).await;
    // The retention removes partitions up to a batch, and leaves the last one until its batch is one of those.
    let last_batch = test.number("SELECT last_batch FROM event_partitions WHERE number = 8").await;
    test.run("UPDATE event_partitions SET last_batch = 1 << 30 WHERE number = 8").await;
    assert_eq!(maintain(&test).await, 70);
    assert_eq!((groups(&test).await.as_str(), filters(&test).await), ("1-8", (2, 0)), "one partition is left");
    expect_duplicates(&another_replica(&test).await, 70..80, "in the partition that is left").await;
    test.run(&format!("UPDATE event_partitions SET last_batch = {last_batch} WHERE number = 8")).await;
    assert_eq!(maintain(&test).await, 10);
    assert_eq!((groups(&test).await.as_str(), filters(&test).await), ("none", (0, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_group_replaces_one_whose_first_partition_was_removed() {
    let test = with_partitions_of(10).await;
    fill(&test, 63).await;
    test.run("DELETE FROM event_partitions WHERE number = 1; UPDATE event_layout SET version = gen_random_uuid()")
        .await;
    test.commit(&batch_of(events(630..640))).await;
    maintain_partitions(&test).await;
    assert_eq!(groups(&test).await, "1-64");
}
