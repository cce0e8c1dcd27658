//! What a process leaves that ends while it writes a batch.

use std::fs;
use std::path::Path;

use sluice_client::Recovery;

use crate::server::Server;
use crate::spool::{leave, names, with_spool};
use crate::wait::PATIENCE;

/// The segment of a spool that has one.
fn segment(dir: &Path) -> std::path::PathBuf {
    let names = names(dir, ".segment");
    assert_eq!(names.len(), 1, "{names:?}");
    dir.join(&names[0])
}

/// Opens a spool with no server to send to, and returns what was found.
async fn opened(dir: &Path) -> Recovery {
    let client = with_spool("http://127.0.0.1:1".to_owned(), dir).build().await.unwrap();
    let recovery = client.recovery().unwrap().clone();
    let _ = client.close(std::time::Duration::ZERO).await;
    recovery
}

#[tokio::test]
async fn a_batch_without_its_end_is_cut_at_every_length_and_those_before_it_stay() {
    let original = tempfile::tempdir().unwrap();
    leave(original.path(), 0..2).await;
    let bytes = fs::read(segment(original.path())).unwrap();
    // Both batches have the same length, behind a header of eight bytes.
    let length = (bytes.len() - 8) / 2;
    let start = bytes.len() - length;
    assert_eq!(&bytes[start..start + 4], b"FRAM");

    for cut in 0..length {
        let copy = tempfile::tempdir().unwrap();
        let file = copy.path().join(segment(original.path()).file_name().unwrap());
        fs::write(&file, &bytes[..start + cut]).unwrap();
        let recovery = opened(copy.path()).await;
        assert_eq!((recovery.batches, recovery.torn_bytes), (1, cut as u64), "{cut} bytes of the last batch");
        assert!(recovery.damaged.is_empty(), "{cut}: {recovery:?}");
        assert_eq!(fs::read(&file).unwrap(), bytes[..start], "{cut}");
        // What is written behind the cut is found, and nothing is cut again.
        leave(copy.path(), 2..3).await;
        let recovery = opened(copy.path()).await;
        assert_eq!((recovery.batches, recovery.torn_bytes), (2, 0), "{cut}");
    }
}

#[tokio::test]
async fn a_segment_without_the_end_of_its_first_batch_is_removed_at_every_length() {
    let original = tempfile::tempdir().unwrap();
    leave(original.path(), 0..1).await;
    let bytes = fs::read(segment(original.path())).unwrap();
    for cut in 0..bytes.len() {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join(segment(original.path()).file_name().unwrap()), &bytes[..cut]).unwrap();
        let recovery = opened(copy.path()).await;
        assert_eq!((recovery.batches, recovery.damaged.len()), (0, 0), "{cut}: {recovery:?}");
        assert!(names(copy.path(), ".segment").is_empty(), "{cut}");
    }
}

#[tokio::test]
async fn zeros_that_a_file_system_left_at_the_end_are_cut() {
    let spool = tempfile::tempdir().unwrap();
    leave(spool.path(), 0..2).await;
    let file = segment(spool.path());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, [&bytes[..], &[0; 100]].concat()).unwrap();
    let recovery = opened(spool.path()).await;
    assert_eq!((recovery.batches, recovery.torn_bytes, recovery.damaged.len()), (2, 100, 0));
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[tokio::test]
async fn what_is_before_a_torn_tail_is_delivered() {
    let server = Server::start().await;
    let spool = tempfile::tempdir().unwrap();
    leave(spool.path(), 0..3).await;
    let file = segment(spool.path());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let client = with_spool(server.url(), spool.path()).build().await.unwrap();
    client.close(PATIENCE).await.unwrap();
    assert_eq!(server.events("t").await.into_keys().collect::<Vec<_>>(), ["0", "1"]);
}
