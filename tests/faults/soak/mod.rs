//! Random faults, alone and in pairs, under clients that keep a history.
//!
//! A round is a schedule of faults, drawn from a seed, under load. After it everything is put right, the clients
//! finish, and nothing is in flight. Then the rows and counts are compared with the history: a request that was
//! accepted is stored whole and, with a key, counted once; one that was refused is not stored; one of unknown outcome is
//! one of both, and its first row tells which.
//!
//! `SLUICE_SOAK_SECONDS` is the duration of both tests together, `SLUICE_SOAK_SEED` the seed. Without a seed, each day
//! has another one.

mod clients;
mod history;
mod rig;
mod schedule;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_tests::{Backend, Snapshot, Watch, meters};

use self::clients::Clients;
use self::history::{History, event};
use self::rig::{APPEND_TIMEOUT, Rig};
use self::schedule::Round;

/// The duration of both tests together in seconds, if none is given.
const SECONDS: u64 = 60;
/// The shares of the time for the two tests: Redis with PostgreSQL has most parts and most faults.
const CLUSTER_SHARE: f64 = 0.75;
const STANDALONE_SHARE: f64 = 0.25;
/// How often the counts are checked during the rounds.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// How long a repeated append may still arrive after the last answer, beyond the time for which it is repeated.
const LATE: Duration = Duration::from_secs(1);
/// How long it may take, after everything is put right, until nothing is in flight.
const SETTLED: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_on_redis_and_postgres_lose_nothing_and_count_nothing_twice() {
    soak(Backend::RedisPostgres, CLUSTER_SHARE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_of_a_standalone_system_lose_nothing_and_count_nothing_twice() {
    soak(Backend::Standalone, STANDALONE_SHARE).await;
}

async fn soak(backend: Backend, share: f64) {
    let seconds = setting("SLUICE_SOAK_SECONDS").unwrap_or(SECONDS);
    let seed = setting("SLUICE_SOAK_SEED").unwrap_or_else(seed_of_today);
    println!("\n── soak on {backend:?}, seed {seed}");
    let mut rig = Rig::start(backend).await;
    let watch = Watch::start_every(WATCH_EVERY, &rig.system.store);
    assert!(meters::begin(&rig.system.client).await, "the programs know meters");
    let history = Arc::new(Mutex::new(History::default()));
    let started = Instant::now();
    let (mut rounds, mut faults) = (0, 0);
    let mut end = Snapshot::default();
    while started.elapsed() < Duration::from_secs(seconds).mul_f64(share) {
        let round = Round::of(seed, backend, rounds);
        println!("{round}");
        end = play(&mut rig, &round, &history).await;
        watch.checked();
        if rounds == 0 {
            meters::change(&rig.system.client).await;
        }
        rounds += 1;
        faults += round.faults.len();
    }
    let stored = history.lock().expect("the lock").stored().clone();
    compare_all_rows(&rig, &stored).await;
    meters::compare(&rig.system).await;
    let totals = history.lock().expect("the lock").totals();
    println!(
        "   rounds {rounds} · faults {faults} · {totals:?}\n   received {} · unique {} · duplicates {} · rows {} · \
         snapshots checked {} · {:.0?}",
        end.received,
        end.unique,
        end.duplicates,
        end.rows,
        watch.finish(),
        started.elapsed(),
    );
}

/// Plays one round, and compares everything after it.
async fn play(rig: &mut Rig, round: &Round, history: &Arc<Mutex<History>>) -> Snapshot {
    let clients = Clients::start(&rig.bases(), round.seed.wrapping_add(round.number), history);
    let done = rig.play(round).await;
    rig.heal().await;
    clients.finish().await;
    // The publisher may still repeat an append whose client has given up.
    tokio::time::sleep(APPEND_TIMEOUT + LATE).await;
    let least = history.lock().expect("the lock").least_received();
    let (end, late) = settled(rig, least).await;
    let first = history.lock().expect("the lock").first_id();
    let rows = rig.system.reader().await.rows_from(&first).await.expect("the rows");
    let mut differences = history.lock().expect("the lock").compare(&rows, &end);
    differences.extend(late);
    if rig.system.backend == Backend::RedisPostgres {
        let pending = rig.system.stream().await.pending().await.expect("the pending entries");
        differences.extend((pending > 0).then(|| format!("{pending} entries stay pending")));
    }
    let stats = rig.system.client.get_json("/stats").await;
    let told = ["received", "unique_processed", "duplicate_dropped", "dead_lettered"].map(|name| stats[name].as_i64());
    if told != [end.received, end.unique, end.duplicates, end.dead_lettered].map(Some) {
        differences.push(format!("/stats tells {stats}, the database {end:?}"));
    }
    assert!(
        differences.is_empty(),
        "{} differences\n  {}\nthe schedule: {round}\nwhat was done:\n{}",
        differences.len(),
        differences.join("\n  "),
        done.join("\n"),
    );
    end
}

/// Waits until so many events have arrived and nothing is in flight. Returns the counts at that time, and what is
/// missing if it lasts too long: the comparison then tells which events these are.
async fn settled(rig: &Rig, least: u64) -> (Snapshot, Option<String>) {
    let started = Instant::now();
    let mut reader = rig.system.reader().await;
    loop {
        let state = rig.system.look(&mut reader).await;
        let late = started.elapsed() > SETTLED;
        match state {
            Ok((end, Some(0))) if end.arrived() >= least => return (end, None),
            Ok((end, backlog)) if late => {
                return (end, Some(format!("not all is stored after {SETTLED:?}: backlog {backlog:?}")));
            }
            Err(error) if late => panic!("the counts cannot be read for {SETTLED:?}: {error}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Compares the events of all rounds once more, because each round compared only its own.
async fn compare_all_rows(rig: &Rig, stored: &HashSet<u64>) {
    let rows = rig.system.reader().await.rows().await.expect("the rows");
    let mut missing: HashSet<_> = stored.iter().map(|n| event(*n)).collect();
    for row in rows {
        assert!(missing.remove(&row), "not sent, or stored twice, or changed: {row:?}");
    }
    assert!(missing.is_empty(), "{} rows of earlier rounds are gone: {:?}", missing.len(), missing.iter().next());
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a whole number: {value:?}")))
}

fn seed_of_today() -> u64 {
    const DAY: u64 = 24 * 60 * 60;
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs() / DAY
}
