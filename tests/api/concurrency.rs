//! Many concurrent clients.

use std::sync::Arc;

use serde_json::Value;
use sluice_tests::{Backend, Client, Load, LoadOptions, Setup, ledger};
use tokio::sync::Barrier;

use crate::common::{counts, event, system};

on_both_backends!(
    the_same_1000_ids_from_16_clients_at_once_are_stored_once,
    statistics_lose_no_update_under_concurrency,
    three_workers_share_the_work_without_double_processing,
);

/// Sends the same 1,000 ids from 16 clients that start at the same time, each in a different order and with
/// requests of a different size. Returns the number of events sent.
async fn flood(client: &Client) -> u64 {
    let start = Arc::new(Barrier::new(16));
    let clients = (0..16_u64).map(|number| {
        let (client, start) = (client.clone(), start.clone());
        tokio::spawn(async move {
            // A step that has no common factor with 1,000 visits every id, in another order for each client.
            let order = (0..1_000_u64).map(|n| (n * (2 * number + 1) * 7 + number * 61) % 1_000);
            let mut order: Vec<_> = order.collect();
            order.dedup();
            start.wait().await;
            let mut sent = 0;
            for piece in order.chunks(20 + number as usize * 5) {
                let body: Value = piece.iter().map(|n| event("flood", &format!("evt-{n}"))).collect();
                sent += client.publish(&body).await;
            }
            sent
        })
    });
    let mut sent = 0;
    for client in clients.collect::<Vec<_>>() {
        sent += client.await.unwrap();
    }
    sent
}

async fn the_same_1000_ids_from_16_clients_at_once_are_stored_once(backend: Backend) {
    let system = system(backend).await;
    let sent = flood(&system.client).await;
    let snapshot = system.wait_until_stored(sent).await;
    assert_eq!(sent, 16_000);
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates), (16_000, 1_000, 15_000));
    assert_eq!((snapshot.rows, snapshot.conflicts), (1_000, 0));
}

async fn statistics_lose_no_update_under_concurrency(backend: Backend) {
    let system = Setup::new(backend).aggregators(2).start().await;
    let load = Load::start(&system.base(), LoadOptions { clients: 16, ..LoadOptions::default() });
    // While events arrive, the reported counts must be consistent at every moment.
    let ask = async {
        let mut last = 0;
        loop {
            let [received, unique, duplicates] = counts(&system.client).await;
            assert_eq!(received, unique + duplicates);
            assert!(received >= last, "statistics went back from {last} to {received}");
            last = received;
        }
    };
    tokio::select! {
        () = load.more(10_000) => {}
        () = ask => {}
    }
    let sent = load.stop().await;
    ledger::final_comparison(&system, &sent).await;
}

async fn three_workers_share_the_work_without_double_processing(backend: Backend) {
    let system = Setup::new(backend).aggregators(3).start().await;
    let load = Load::start(&system.base(), LoadOptions { clients: 16, ..LoadOptions::default() });
    load.more(10_000).await;
    let sent = load.stop().await;
    ledger::final_comparison(&system, &sent).await;
}
