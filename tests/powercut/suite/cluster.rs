//! Redis and PostgreSQL, a publisher and aggregators, on one machine whose power is cut.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_powercut::Loss;
use sluice_tests::postgres::PostgresServer;
use sluice_tests::redis::RedisServer;
use sluice_tests::store::StoreAddress;
use sluice_tests::system::OwnServers;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, LoadOptions, Setup, wait_until};
use sqlx::{Connection, Executor, PgConnection};
use tokio::task::JoinHandle;

use crate::trial::{Trial, disk, no_duplicates, seeds};

/// Checkpoints and rewrites come often, so that power cuts meet them.
const OFTEN: &str = "max_wal_size = 32MB\ncheckpoint_timeout = 30s\ncheckpoint_completion_target = 0.1\n";
const REWRITES: [&str; 4] = ["--auto-aof-rewrite-min-size", "256kb", "--auto-aof-rewrite-percentage", "50"];
/// The timeout for what PostgreSQL does with its pages.
const DEADLINE: Duration = Duration::from_secs(180);

/// Starts a system under load, with its servers on disks of their own.
async fn begin(redis: &[&str], postgres: &str, seed: u64, load: LoadOptions) -> Trial {
    let disks = vec![disk("disk-of-redis", seed), disk("disk-of-postgres", seed + 1)];
    let servers = tokio::task::block_in_place(|| {
        // As the operator runs it, so that a page that is torn is noticed when it is read.
        let prepared = PostgresServer::prepare_in(disks[1].path(), &format!("{OFTEN}{postgres}")).with_checksums();
        // The database was not created today.
        disks[1].disk().sync_all();
        OwnServers { redis: RedisServer::start_in(disks[0].path(), redis), postgres: prepared.started() }
    });
    let setup = Setup::new(Backend::RedisPostgres).aggregators(2).on_servers(servers).replica("--claim-after", "5s");
    // What PostgreSQL has lost must not be in Redis any more.
    let system = setup.replica("--replay-window", "0s").start().await;
    Trial::begin(system, disks, seed, load).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_power_cuts_what_was_answered_is_stored_once_and_every_number_is_exact() {
    for seed in seeds() {
        let mut trial = begin(&REWRITES, "", seed, LoadOptions::default()).await;
        for (round, loss) in [Loss::Everything, Loss::Pages, Loss::TornPages, Loss::TornPages].into_iter().enumerate() {
            // Every second time events are in Redis alone, and the power fails before, in or after a checkpoint.
            // Otherwise PostgreSQL has written changed pages and has not synced them.
            let lock = if round % 2 == 0 { Some(trial.accepted_and_not_stored().await) } else { None };
            let checkpoint = match &lock {
                Some(_) => tokio::spawn(checkpoint(postgres_of(&trial).maintenance_url())),
                None => pages_written_and_not_synced(&trial).await,
            };
            trial.any_moment().await;
            trial.cut(loss).await.unwrap();
            drop(lock);
            // Its connection breaks, or it was done before.
            let _ = checkpoint.await;
            trial.load.more(500).await;
        }
        let rewrites = appended_file(trial.disks[0].path()).1 - 1;
        println!("seed {seed}: Redis has rewritten its file {rewrites} times");
        assert!(rewrites > 0, "no power cut could meet a rewrite");
        trial.end().await;
    }
}

/// Returns the file to which Redis appends, and its number, which starts with 1 and rises with each rewrite.
fn appended_file(redis: &Path) -> (PathBuf, u64) {
    let files = std::fs::read_dir(redis.join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
    let appended = files.filter_map(|path| {
        let number = path.to_str()?.strip_suffix(".incr.aof")?.rsplit('.').next()?.parse().ok()?;
        Some((path, number))
    });
    appended.max_by_key(|(_, number)| *number).unwrap()
}

fn postgres_of(trial: &Trial) -> &PostgresServer {
    &trial.system.servers.as_ref().unwrap().postgres
}

async fn checkpoint(url: String) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(&url).await?;
    connection.execute("CHECKPOINT").await?;
    Ok(())
}

/// Waits until pages of the tables of events and of their indexes, which an earlier checkpoint has made durable, are
/// changed and written by a checkpoint that waits for the answer to the first of their syncs. Returns that
/// checkpoint, which the power cut ends.
async fn pages_written_and_not_synced(trial: &Trial) -> JoinHandle<sqlx::Result<()>> {
    let url = postgres_of(trial).maintenance_url();
    checkpoint(url.clone()).await.unwrap();
    let goal = trial.system.reader().await.snapshot().await.unwrap().rows + 300;
    let check = || async {
        let rows = trial.system.reader().await.snapshot().await.map_or(0, |now| now.rows);
        holds(rows >= goal, || format!("{rows} rows of {goal}"))
    };
    wait_until("changes of pages that a checkpoint has made durable", DEADLINE, check).await;
    let disk = trial.disks[1].disk();
    for file in files_of_events(trial).await {
        disk.hold_syncs(&file);
    }
    let checkpoint = tokio::spawn(checkpoint(url));
    let check = || async { holds(disk.sync_waits(), || "no sync waits".to_owned()) };
    wait_until("the sync of what the checkpoint has written", DEADLINE, check).await;
    checkpoint
}

/// Returns the names of the files with the tables of events and with their indexes.
async fn files_of_events(trial: &Trial) -> Vec<String> {
    let StoreAddress::Postgres { url, schema } = &trial.system.store else { unreachable!("it is in PostgreSQL") };
    let mut connection = PgConnection::connect(url).await.unwrap();
    let files = sqlx::query_scalar(
        "SELECT pg_relation_filenode(c.oid)::text FROM pg_class c
         LEFT JOIN pg_index i ON i.indexrelid = c.oid
         JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
         WHERE t.relnamespace = quote_ident($1::text)::regnamespace AND t.relname ~ '^event_rows_[0-9]+$'",
    );
    files.bind(schema).fetch_all(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_appendfsync_everysec_answered_events_are_lost() {
    let mut lost = 0;
    for seed in 0..5 {
        let mut trial = begin(&["--appendfsync", "everysec"], "", seed, no_duplicates()).await;
        let lock = trial.accepted_and_not_stored().await;
        trial.cut(Loss::Everything).await.unwrap();
        drop(lock);
        lost = trial.lost().await;
        if lost > 0 {
            break;
        }
    }
    assert!(lost > 0, "the power cuts lost nothing, though nothing was synced for up to a second before them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_fsync_off_stored_events_are_lost_which_is_noticed() {
    let mut trial = begin(&[], "fsync = off\n", 1, no_duplicates()).await;
    // What Redis still has is stored again, so it must have removed something before.
    counted(&trial, "sluice_entries_trimmed_total").await;
    trial.cut(Loss::Everything).await.unwrap();
    counted(&trial, "sluice_store_losses_total").await;
    let lost = trial.lost().await;
    assert!(lost > 0, "the power cut lost nothing, though nothing was synced");
}

/// Waits until the aggregators have counted something.
async fn counted(trial: &Trial, metric: &str) {
    wait_until(&format!("{metric} is counted"), DEADLINE, || async {
        holds(trial.system.aggregator_metric(metric).await > 0, || "it is 0".into())
    })
    .await;
}

/// PostgreSQL finds the torn page while it repeats what it has logged since the checkpoint before, and does not start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_full_page_writes_off_torn_pages_stop_postgres() {
    let mut trial = begin(&[], "full_page_writes = off\n", 1, LoadOptions::default()).await;
    let checkpoint = pages_written_and_not_synced(&trial).await;
    let refusal = trial.cut(Loss::TornPages).await.expect_err("no page was torn, or none was read");
    println!("{refusal}");
    assert!(refusal.contains("invalid page in block"), "{refusal}");
    assert!(checkpoint.await.unwrap().is_err(), "the checkpoint was in its syncs when the power failed");
}

/// A file system that allocates first and writes later can leave a size without its data. Redis does not read past
/// the zeros and does not start, which operations.md describes with its remedy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeros_after_what_was_synced_stop_redis_until_redis_check_aof_has_cut_them_off() {
    let mut trial = begin(&[], "", 1, LoadOptions::default()).await;
    let lock = trial.accepted_and_not_stored().await;
    trial.cut_without_start(Loss::Everything);
    drop(lock);
    let (appended, _) = appended_file(trial.disks[0].path());
    OpenOptions::new().append(true).open(&appended).unwrap().write_all(&[0; 5000]).unwrap();

    let refusal = trial.start().await.unwrap_err();
    assert!(refusal.contains("Bad file format"), "{refusal}");

    let mut check = Command::new("redis-check-aof");
    check
        .arg("--fix")
        .arg(appended.with_file_name("appendonly.aof.manifest"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(b"y\n").unwrap();
    assert!(check.wait().unwrap().success(), "redis-check-aof has repaired the file");
    trial.start().await.unwrap();
    trial.end().await;
}
