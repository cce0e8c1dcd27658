//! What is damaged on the disk of a spool.

use std::fs;
use std::time::Duration;

use sluice_client::{BuildError, OpenError};

use crate::server::Server;
use crate::spool::{event, leave, names, with_spool};
use crate::wait::{PATIENCE, holds, outcome, wait_until};

#[tokio::test]
async fn damage_between_batches_is_put_aside_and_reported_and_all_others_are_delivered() {
    let server = Server::start().await;
    let spool = tempfile::tempdir().unwrap();
    leave(spool.path(), 0..5).await;
    let file = spool.path().join(&names(spool.path(), ".segment")[0]);
    let mut bytes = fs::read(&file).unwrap();
    let length = (bytes.len() - 8) / 5;
    // In the length of the second batch, and in the body of the fourth.
    let places = [8 + length + 4, 8 + 4 * length - 2];
    for place in places {
        bytes[place] ^= 1;
    }
    fs::write(&file, &bytes).unwrap();

    let client = with_spool(server.url(), spool.path()).build().await.unwrap();
    let recovery = client.recovery().unwrap().clone();
    assert_eq!((recovery.batches, recovery.damaged.len(), recovery.torn_bytes), (3, 2, 0), "{recovery:?}");
    for (damage, start) in recovery.damaged.iter().zip([8 + length, 8 + 3 * length]) {
        assert_eq!(damage.bytes, length as u64);
        assert_eq!(fs::read(&damage.file).unwrap(), bytes[start..start + length]);
    }
    assert_eq!((client.stats().damaged, client.stats().aside_bytes), (2, 2 * length as u64));
    client.close(PATIENCE).await.unwrap();
    assert_eq!(server.events("t").await.into_keys().collect::<Vec<_>>(), ["0", "2", "4"]);

    // It is put aside once.
    let client = with_spool(server.url(), spool.path()).build().await.unwrap();
    assert!(client.recovery().unwrap().damaged.is_empty());
    assert_eq!(names(spool.path(), ".damaged").len(), 2);
}

#[tokio::test]
async fn damage_of_the_last_batch_is_not_taken_for_a_torn_tail() {
    let original = tempfile::tempdir().unwrap();
    leave(original.path(), 0..2).await;
    let name = names(original.path(), ".segment").remove(0);
    let bytes = fs::read(original.path().join(&name)).unwrap();
    let length = (bytes.len() - 8) / 2;
    for place in bytes.len() - length..bytes.len() {
        let copy = tempfile::tempdir().unwrap();
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        fs::write(copy.path().join(&name), damaged).unwrap();
        let client = with_spool("http://127.0.0.1:1".to_owned(), copy.path()).build().await.unwrap();
        let recovery = client.recovery().unwrap();
        assert_eq!((recovery.batches, recovery.torn_bytes, recovery.damaged.len()), (1, 0, 1), "byte {place}");
    }
}

#[tokio::test]
async fn the_end_of_a_segment_that_is_not_the_last_is_damage_if_it_is_missing() {
    let spool = tempfile::tempdir().unwrap();
    leave(spool.path(), 0..2).await;
    leave(spool.path(), 2..3).await;
    let first = spool.path().join(&names(spool.path(), ".segment")[0]);
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[..bytes.len() - 1]).unwrap();
    let client = with_spool("http://127.0.0.1:1".to_owned(), spool.path()).build().await.unwrap();
    let recovery = client.recovery().unwrap();
    assert_eq!((recovery.batches, recovery.torn_bytes, recovery.damaged.len()), (2, 0, 1));
}

#[tokio::test]
async fn damage_that_comes_while_a_client_runs_is_reported_and_put_aside_when_the_spool_is_opened_again() {
    let server = Server::start().await;
    let spool = tempfile::tempdir().unwrap();
    // One batch on its way at a time, and no server yet: the others are still to be read.
    let builder = with_spool("http://127.0.0.1:1".to_owned(), spool.path()).in_flight(1);
    let client = builder.build().await.unwrap();
    for number in 0..3 {
        client.send(event(number)).await.unwrap();
    }
    client.close(Duration::ZERO).await.unwrap_err();
    let away = Server::stopped(&[]);
    let client = with_spool(away.url(), spool.path()).in_flight(1).build().await.unwrap();
    wait_until("the first batch was read", async || holds(client.stats().last_failure.is_some(), ())).await;
    let file = spool.path().join(&names(spool.path(), ".segment")[0]);
    let mut bytes = fs::read(&file).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    fs::write(&file, bytes).unwrap();
    // A client of another server cannot take over; so this one is started late.
    let mut away = away;
    away.launch();
    wait_until("the damage is found", async || holds(client.stats().damaged == 1, client.stats())).await;
    outcome(client.send(event(3)).await.unwrap()).await;
    client.close(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(away.events("t").await.into_keys().collect::<Vec<_>>(), ["0", "3"]);

    let client = with_spool(server.url(), spool.path()).build().await.unwrap();
    assert_eq!(client.recovery().unwrap().damaged.len(), 1);
    client.close(PATIENCE).await.unwrap();
    assert_eq!(server.events("t").await.into_keys().collect::<Vec<_>>(), ["2"]);
}

#[tokio::test]
async fn a_segment_of_an_unknown_version_is_not_touched() {
    let spool = tempfile::tempdir().unwrap();
    leave(spool.path(), 0..1).await;
    let file = spool.path().join(&names(spool.path(), ".segment")[0]);
    let mut bytes = fs::read(&file).unwrap();
    bytes[7] = 2;
    fs::write(&file, &bytes).unwrap();
    let refused = with_spool("http://127.0.0.1:1".to_owned(), spool.path()).build().await.unwrap_err();
    assert!(matches!(refused, BuildError::Spool(OpenError::Version { version: 2, .. })), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
}
