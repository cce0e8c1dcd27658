//! Tests of the SQLite file: its lock, its size limit, and its content after failures.

use std::path::Path;
use std::time::Duration;

use sluice_log::sqlite::{SqliteLog, SqliteSettings};
use sluice_log::{Append, Appended, LogError, LogReader, LogWriter};

use crate::support::{append, done, entry, fill, read};

fn settings(folder: &Path, max_bytes: Option<u64>) -> SqliteSettings {
    SqliteSettings { folder: folder.join("data"), idempotency_ttl: Duration::from_secs(3600), max_bytes }
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_free_again_after_it_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(settings(folder.path(), None)).await.unwrap();
    let refused = SqliteLog::open(settings(folder.path(), None)).await.err().unwrap();
    assert!(matches!(refused, LogError::Failed(_)), "{refused:?}");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    fill(&log, 0, 1).await;
    log.close().await;
    let log = SqliteLog::open(settings(folder.path(), None)).await.unwrap();
    assert_eq!(read(&log, 1).await.len(), 1);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "a file").unwrap();
    let refused = SqliteLog::open(settings(folder.path(), None)).await.err().unwrap();
    assert!(refused.to_string().contains("data"), "{refused}");
}

#[tokio::test]
async fn a_full_file_refuses_appends_and_takes_acknowledgements() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(settings(folder.path(), Some(4 << 20))).await.unwrap();
    let large = || Append { stream: 0, entry: entry(1, 100_000), keyed: Vec::new() };
    let mut appended = 0;
    let full = loop {
        match log.append(&large()).await {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
        assert!(appended < 100);
    };
    assert!(matches!(full, LogError::NoSpace(_)), "{full:?}");
    let pressure = log.pressure().await;
    assert!(matches!(pressure, Err(LogError::NoSpace(_))), "it stays full for a while: {pressure:?}");

    // A large append that is refused does not make a small one fail that is committed at the same time.
    let (too_large, small) = (large(), append(1));
    let (refused, stored) = futures::join!(log.append(&too_large), log.append(&small));
    assert!(matches!(refused, Err(LogError::NoSpace(_))), "{refused:?}");
    assert!(matches!(stored, Ok(Appended::Stored { .. })), "{stored:?}");
    appended += 1;

    let all = read(&log, appended as usize).await;
    assert_eq!(log.acknowledge(&done(&all)).await.unwrap(), appended);
    let pressure = crate::support::wait_for("the wait to be over", async || log.pressure().await.ok()).await;
    assert!(pressure.memory.unwrap() < 0.1);
    assert_eq!(pressure.backlog, Some(0));
    log.append(&large()).await.unwrap();
}

#[tokio::test]
async fn a_row_that_somebody_deleted_is_reported_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(settings(folder.path(), None)).await.unwrap();
    fill(&log, 0, 3).await;
    let held = read(&log, 3).await;
    let file = folder.path().join("data/log.db");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query("DELETE FROM entries WHERE sequence = 2").execute(&pool).await.unwrap();
    pool.close().await;

    let claimed = log.claim(Duration::ZERO, 10).await.unwrap();
    assert_eq!(claimed.lost, [held[1].position]);
    assert_eq!(claimed.entries, [held[0].clone(), held[2].clone()]);
    assert_eq!(log.backlog().await.unwrap().pending, 2);
}

#[tokio::test]
async fn expired_keys_leave_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SqliteSettings { idempotency_ttl: Duration::from_millis(1), ..settings(folder.path(), None) };
    let log = SqliteLog::open(settings).await.unwrap();
    for round in 0..5 {
        let pairs: Vec<_> = (0..700).map(|n| (round * 700 + n, n)).collect();
        log.append(&crate::support::keyed(&pairs)).await.unwrap();
    }
    let file = folder.path().join("data/log.db");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    crate::support::wait_for("the expired keys to be removed", async || {
        log.trim().await.unwrap();
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM keys").fetch_one(&pool).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_write_that_fails_half_way_leaves_nothing_behind_and_the_next_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(settings(folder.path(), None)).await.unwrap();
    let file = folder.path().join("data/log.db");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    // Appending fails after the insert of the entry.
    sqlx::query("ALTER TABLE counts RENAME TO hidden").execute(&pool).await.unwrap();
    for _ in 0..3 {
        let refused = log.append(&append(1)).await;
        assert!(matches!(refused, Err(LogError::Failed(_))), "{refused:?}");
    }
    sqlx::query("ALTER TABLE hidden RENAME TO counts").execute(&pool).await.unwrap();
    pool.close().await;
    assert_eq!(log.read_new(10, Duration::ZERO).await.unwrap(), []);
    assert_eq!(log.append(&append(1)).await.unwrap(), Appended::Stored { backlog: Some(1) });
}
