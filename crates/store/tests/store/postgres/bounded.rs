//! A list that is bounded by topics looks at no rows of others.

use std::time::Duration;

use sluice_auth::Topics;
use sluice_store::{EventQuery, Patterns};
use sluice_tests::wait_until;

use crate::batches::*;
use crate::stores::{TestStore, fresh_schema};

const FOREIGN: i64 = 200_000;
/// The entries of indexes and the rows that a list of 100 events may look at.
const MAX_READ: i64 = 2_000;
const READ: &str = "SELECT (SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_all_tables \
                            WHERE relid = 'event_rows_1'::regclass)::int8 \
                         + (SELECT sum(idx_tup_read) FROM pg_stat_all_indexes \
                            WHERE relid = 'event_rows_1'::regclass)::int8";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_few_events_among_many_of_others_reads_only_these() {
    let settings = fresh_schema();
    let test = TestStore::on_postgres(settings.clone()).await;
    for round in 0..4 {
        test.commit(&batch_of((0..25).map(|n| event(&format!("mine.{}", n % 5), round * 25 + n, "0")).collect())).await;
        test.run(&format!(
            "INSERT INTO event_rows (key, seq, ts, received_at, payload_hash, request_id, topic, event_id, payload) \
             SELECT gen_random_uuid(), (draw_batch() << 20), now(), now(), gen_random_uuid(), \
                    gen_random_uuid(), 'other.' || n % 20, n, '{{}}' FROM generate_series(1, {}) n",
            FOREIGN / 4
        ))
        .await;
    }
    // The planner knows of all of them, or of none.
    for analyze in ["SELECT 1", "ANALYZE event_rows"] {
        test.run(analyze).await;
        let before = test.number(READ).await;
        let opened = TestStore::on_postgres(settings.clone()).await;
        let patterns = Patterns::of(&Topics::Only(["mine.*".parse().unwrap()].into())).unwrap();
        let topics = opened.store.select_topics(&patterns).await.unwrap();
        for query in [
            EventQuery { topics: topics.clone(), limit: 1_000, ..EventQuery::default() },
            EventQuery { topics, since: Some(at("2026-01-01T00:00:00Z")), limit: 1_000, ..EventQuery::default() },
        ] {
            let page = opened.store.events(&query).await.unwrap();
            assert_eq!((page.events.len(), page.next), (100, None));
        }
        // A session reports its numbers when it ends.
        drop(opened);
        let read = wait_until("the numbers are there", Duration::from_secs(60), || async {
            let read = test.number(READ).await - before;
            if read >= 400 { Ok(read) } else { Err(read.to_string()) }
        })
        .await;
        assert!(read <= MAX_READ, "after {analyze}: {read} rows and entries were read for 200 events");
    }
}
