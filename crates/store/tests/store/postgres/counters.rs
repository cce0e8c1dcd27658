//! The counters of consumers that are gone.

use std::sync::Arc;

use sluice_event::{EntryId, ReceiptId};
use sluice_store::{CommitOptions, Counts};
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::TestStore;

fn shard(test: &TestStore, shard: &str) -> CommitOptions {
    CommitOptions { shard: shard.to_owned(), ..test.options.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counters_of_consumers_that_are_gone_become_one_row_per_topic() {
    let test = TestStore::postgres().await;
    for (number, name) in ["gone-1/0", "gone-1/1", "gone-2/replay", "here/0", "here/1"].into_iter().enumerate() {
        let options = shard(&test, name);
        let sent = vec![event("a", number, "0"), event("b", number, "0"), event("b", number, "1")];
        test.commit_until_done(&options, &batch_of(sent)).await;
    }
    let before = test.statistics().await;
    let here = ["here".to_owned()];
    assert_eq!(test.store.fold_counters(&here).await.unwrap(), 6, "three shards of two topics");
    assert_eq!(test.number("SELECT count(*) FROM counters").await, 4 + 2);
    assert_eq!(test.statistics().await, before);
    assert_eq!(test.store.fold_counters(&here).await.unwrap(), 0);

    // One that comes back begins new rows, which are added to the others when it is gone again.
    test.commit_until_done(&shard(&test, "gone-1/0"), &batch_of(vec![event("a", 100, "0")])).await;
    assert_eq!(test.store.fold_counters(&here).await.unwrap(), 1);
    assert_eq!(test.number("SELECT count(*) FROM counters").await, 4 + 2);
    let Counts { received, unique, duplicates, conflicts } = test.counts().await;
    assert_eq!([received, unique, duplicates, conflicts], [16, 11, 5, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_consumer_that_was_thought_gone_commits_meanwhile() {
    let test = Arc::new(TestStore::postgres().await);
    let mut workers = JoinSet::new();
    for worker in 0..3_u32 {
        let test = Arc::clone(&test);
        workers.spawn(async move {
            let options = shard(&test, &format!("gone/{worker}"));
            for round in 0..60 {
                let sent = (0..4).map(|topic| event(&format!("t{topic}"), worker * 1_000 + round, "0")).collect();
                test.commit_until_done(&options, &batch_of(sent)).await;
            }
        });
    }
    let mut folded = 0;
    while !workers.is_empty() {
        folded += test.store.fold_counters(&[]).await.unwrap();
        while workers.try_join_next().is_some() {}
    }
    assert!(folded > 12, "rows were added up while they were written: {folded}");
    assert_eq!(test.counts().await, Counts { received: 720, unique: 720, ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_of_consumers_that_are_gone_becomes_one_row_per_topic_and_kind() {
    let test = TestStore::postgres().await;
    let receipt = ReceiptId::from(EntryId::random());
    for name in ["first/0", "gone-1/0", "gone-2/0", "here/0"] {
        let sent = vec![event("a", 1, "0"), event("b", 1, "0")];
        test.commit_until_done(&shard(&test, name), &batch(vec![entry(vec![keyed(receipt, sent)])])).await;
    }
    let (rows, events) = ("SELECT count(*) FROM ledger", "SELECT sum(events)::int8 FROM ledger");
    assert_eq!([test.number(rows).await, test.number(events).await], [6, 6]);
    test.store.fold_counters(&["here".to_owned()]).await.unwrap();
    assert_eq!([test.number(rows).await, test.number(events).await], [4, 6]);
}
