//! Groups of closed partitions of keys that share a filter.

use std::time::Duration;

use super::key_partitions::{
    another_process, expect_duplicates, fill, filters, maintain, maintain_partitions, with_partitions_of,
};
use crate::batches::*;
use crate::stores::TestStore;

/// Returns the span of the one complete group, as a number: 108 are the partitions 1 to 8, and 0 is none.
async fn group(test: &TestStore) -> i64 {
    test.number(
        "SELECT coalesce(sum(first_partition * 100 + last_partition), 0) FROM key_filter_groups WHERE is_complete",
    )
    .await
}

/// Returns the number of filters that have segments, and have no partition and no group.
async fn orphans(test: &TestStore) -> i64 {
    test.number(
        "SELECT count(DISTINCT filter) FROM key_filters \
         WHERE filter NOT IN (SELECT filter FROM key_partitions WHERE filter IS NOT NULL) \
           AND filter NOT IN (SELECT filter FROM key_filter_groups)",
    )
    .await
}

/// Stores ten more events, which fill a partition.
async fn fill_next(test: &TestStore, partition: u32) {
    test.commit(&batch_of(events(partition * 10..partition * 10 + 10))).await;
    maintain_partitions(test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_partitions_of_keys_share_a_filter_and_eight_such_groups_a_larger_one() {
    let test = with_partitions_of(10).await;
    fill(&test, 7).await;
    assert_eq!(group(&test).await, 0);
    for partition in 7..65 {
        fill_next(&test, partition).await;
        match partition + 1 {
            8 => assert_eq!(group(&test).await, 108),
            63 => assert_eq!(test.number("SELECT count(*) FROM key_filter_groups").await, 7),
            64 => assert_eq!(group(&test).await, 164),
            _ => {}
        }
    }
    assert_eq!((filters(&test).await, orphans(&test).await), (66, 0), "one of each partition and one of the group");
    for process in [&test, &another_process(&test).await] {
        maintain_partitions(process).await;
        expect_duplicates(process, 0..650, "in the group and outside").await;
    }
    let figures = async || test.store.maintain_partitions(None).await.expect("maintenance").expect("partitions");
    let before = figures().await;
    test.commit(&batch_of(events(1_000..3_000))).await;
    let after = figures().await;
    let in_vain = (after.keys_looked_up - before.keys_looked_up) - (after.keys_found - before.keys_found);
    assert!(in_vain < 100, "{in_vain} look-ups in vain for 2,000 new keys in 65 partitions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_filter_of_a_group_of_partitions_of_keys_is_noticed_and_built_again() {
    let test = with_partitions_of(10).await;
    fill(&test, 8).await;
    let of_group = "filter IN (SELECT filter FROM key_filter_groups)";
    for damage in [
        format!(
            "UPDATE key_filters SET content = CAST(substr(content, 1, 100) || zeroblob(length(content) - 100) AS BLOB) \
             WHERE {of_group}"
        ),
        format!("DELETE FROM key_filters WHERE {of_group}"),
        // The sound filter of a partition in its place.
        format!(
            "UPDATE key_filters SET content = (SELECT content FROM key_filters WHERE NOT {of_group} LIMIT 1) \
             WHERE {of_group}"
        ),
    ] {
        test.run("CREATE TABLE before AS SELECT filter FROM key_filter_groups").await;
        test.run(&damage).await;
        let other = another_process(&test).await;
        maintain_partitions(&other).await;
        expect_duplicates(&other, 0..80, &damage).await;
        maintain_partitions(&other).await;
        expect_duplicates(&another_process(&test).await, 0..80, &damage).await;
        assert_eq!(group(&test).await, 108, "{damage}");
        let same = "SELECT count(*) FROM before JOIN key_filter_groups USING (filter)";
        assert_eq!(test.number(same).await, 0, "{damage}");
        test.run("DROP TABLE before").await;
        assert_eq!((filters(&test).await, orphans(&test).await), (9, 0), "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_of_a_group_of_partitions_of_keys_that_a_killed_process_has_begun_is_completed() {
    let test = with_partitions_of(10).await;
    fill(&test, 7).await;
    test.commit(&batch_of(events(70..80))).await;
    // A process has begun the group, and has stored a part of another one, of which a partition was removed since.
    test.run(
        "INSERT INTO key_filter_groups (filter, level, first_partition, last_partition, keys, segments) VALUES \
             ('begun', 1, 1, 8, 80, 0), ('another', 1, 0, 7, 80, 1); \
         INSERT INTO key_filters VALUES ('another', 0, x'00')",
    )
    .await;
    maintain_partitions(&test).await;
    let completed = "SELECT count(*) FROM key_filter_groups WHERE is_complete AND filter = 'begun'";
    assert_eq!(test.number(completed).await, 1, "it was not begun anew");
    assert_eq!((group(&test).await, filters(&test).await, orphans(&test).await), (108, 9, 0));
    let other = another_process(&test).await;
    maintain_partitions(&other).await;
    expect_duplicates(&other, 0..80, "with the filter of the group").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_partitions_of_keys_is_removed_with_its_last_partition() {
    let test = with_partitions_of(10).await;
    fill(&test, 7).await;
    test.make_stored_events_older(Duration::from_secs(2 * 24 * 3_600)).await;
    fill_next(&test, 7).await;
    assert_eq!((group(&test).await, maintain(&test).await), (108, 70));
    maintain_partitions(&test).await;
    assert_eq!((group(&test).await, filters(&test).await, orphans(&test).await), (108, 2, 0), "one partition is left");
    let other = another_process(&test).await;
    maintain_partitions(&other).await;
    expect_duplicates(&other, 70..80, "in the partition that is left").await;
    test.make_stored_events_older(Duration::from_secs(2 * 24 * 3_600)).await;
    maintain(&test).await;
    maintain_partitions(&test).await;
    assert_eq!((group(&test).await, filters(&test).await, orphans(&test).await), (0, 0, 0));
}
