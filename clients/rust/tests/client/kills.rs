//! Clients with a spool and their server, killed at random.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::server::Server;
use crate::writer::{Writer, confirmed};

/// For how long processes are killed.
const TIME: Duration = Duration::from_secs(20);

async fn random_pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(20..600))).await;
}

#[tokio::test]
async fn killed_clients_and_servers_lose_no_event_that_was_confirmed_and_store_none_twice() {
    let mut server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let mut run = 0;
    let mut writer = Writer::start(&server.url(), &spool, dir.path(), run);
    let (mut client_kills, mut server_kills) = (0, 0);
    let began = Instant::now();
    // On a slow machine until there was something to kill.
    while began.elapsed() < TIME || client_kills < 5 || server_kills < 5 || confirmed(dir.path()).len() < 100 {
        random_pause().await;
        writer.assert_runs();
        if rand::random_bool(0.5) {
            writer.kill();
            client_kills += 1;
            run += 1;
            writer = Writer::start(&server.url(), &spool, dir.path(), run);
        }
        if rand::random_bool(0.4) {
            server.kill();
            server_kills += 1;
            // Sometimes long enough for a spool to fill and for clients to be killed meanwhile.
            if rand::random_bool(0.3) {
                random_pause().await;
                writer.kill();
                client_kills += 1;
                run += 1;
                writer = Writer::start(&server.url(), &spool, dir.path(), run);
                random_pause().await;
            }
            server.launch();
        }
    }
    writer.kill();
    server.ready().await;
    Writer::drain(&server.url(), &spool, dir.path()).await;

    let confirmed = confirmed(dir.path());
    let stored: BTreeSet<_> = server.events("killed").await.into_keys().collect();
    let lost: Vec<_> = confirmed.difference(&stored).collect();
    println!("{client_kills} clients and {server_kills} servers were killed, {} events confirmed", confirmed.len());
    assert!(lost.is_empty(), "{} of {} confirmed events are not stored: {lost:?}", lost.len(), confirmed.len());
    // An event is sent once, so a duplicate would be a batch that was repeated under another key.
    let stats = server.stats().await;
    assert_eq!((stats["received"].as_u64(), stats["duplicate_dropped"].as_u64()), (Some(stored.len() as u64), Some(0)));
    // Nothing but the lock is left: no damage, no dead letters, no segment.
    let left: Vec<_> = std::fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}
