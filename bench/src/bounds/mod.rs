//! What one hostile client can do: for each kind of client the memory of the programs, and how much of its normal
//! rate an honest client still gets beside it.
//!
//! The honest client publishes at a fixed rate, a fraction of what the system can take: a hostile client that only
//! publishes a lot must not take that from it. Each kind runs against a new system with the defaults.
//! Against those that are about TLS the publisher has a certificate, and the honest client uses TLS too.

mod honest;
mod hostile;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use sluice_tests::certificates::ours;
use sqlx::AssertSqlSafe;

use self::honest::Honest;
pub use self::hostile::Hostile;
use self::hostile::{Answers, Target};
use self::wire::Endpoint;
use crate::report::table::align;
use crate::system::servers::Servers;
use crate::system::sluice::Sluice;
use crate::watch::memory::peak_mib;

/// The most resident memory that each program may have had, in MiB.
const BOUNDS_MIB: [(&str, f64); 2] = [("publisher", 128.0), ("aggregator", 256.0)];
/// How long each kind of client runs before it is measured, so that it has opened its connections.
const LEAD: Duration = Duration::from_secs(3);
/// How long each kind is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// How long it may take until all that was accepted is stored.
const CATCH_UP: Duration = Duration::from_secs(300);

/// What was measured beside one kind of hostile client.
struct Measured {
    /// Events of the honest client that were accepted and stored, per second.
    accepted: f64,
    stored: f64,
    /// The largest resident memory in MiB, by program.
    peaks: BTreeMap<&'static str, f64>,
    answers: Answers,
}

/// Measures all kinds of hostile clients, or those named. Returns a table.
///
/// # Errors
/// If a program uses more memory than it may, if the store is not exact, or if something cannot be measured.
pub async fn run(only: &[Hostile]) -> anyhow::Result<String> {
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most_files())?;
    let servers = Servers::start().await?;
    let alone = beside(&servers, None, "alone").await?;
    let mut rows = vec![row("none", &alone, &alone)];
    let mut beyond = Vec::new();
    for hostile in Hostile::value_variants().iter().filter(|kind| only.is_empty() || only.contains(kind)) {
        let key = hostile.to_possible_value().context("a kind without a name")?.get_name().replace('-', "_");
        let measured = beside(&servers, Some(*hostile), &key).await.with_context(|| key.clone())?;
        let row = row(hostile.title(), &measured, &alone);
        eprintln!("{}", row.join(" | "));
        rows.push(row);
        for (program, bound) in BOUNDS_MIB {
            let peak = measured.peaks.get(program).copied().unwrap_or_default();
            if peak > bound {
                beyond.push(format!("{}: the {program} used {peak:.0} MiB of {bound:.0}", hostile.title()));
            }
        }
    }
    let head = ["hostile client", "accepted", "stored", "publisher, MiB", "aggregator, MiB", "its answers"];
    let table = align(&head.map(str::to_owned), &rows);
    if !beyond.is_empty() {
        bail!("{table}\nmemory beyond its bound:\n{}", beyond.join("\n"));
    }
    Ok(table)
}

/// The limit of open files that the system allows: the client that only opens connections needs thousands.
fn most_files() -> rustix::process::Rlimit {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::Rlimit { current: limit.maximum, ..limit }
}

async fn beside(servers: &Servers, hostile: Option<Hostile>, name: &str) -> anyhow::Result<Measured> {
    let schema = format!("bounds_{name}");
    let tls = hostile.is_some_and(Hostile::is_about_tls);
    let [cert, key] = [&ours().server.cert, &ours().server.key].map(|file| file.display().to_string());
    let options = if tls { &["--tls-cert", &*cert, "--tls-key", &*key][..] } else { &[] };
    let sluice = Sluice::start_with(servers, &schema, 1, options).await?;
    let target = Arc::new(Target::new(Endpoint { address: sluice.address.clone(), tls }));
    let measured = measure(servers, &sluice, &target, hostile, &schema).await;
    let measured = sluice.finish(measured).await?;
    servers.drop_schema(&schema).await?;
    servers.empty_redis().await?;
    Ok(measured)
}

async fn measure(
    servers: &Servers,
    sluice: &Sluice,
    target: &Arc<Target>,
    hostile: Option<Hostile>,
    schema: &str,
) -> anyhow::Result<Measured> {
    target.fill().await?;
    let honest = Honest::start(target);
    let attack = hostile.map(|hostile| hostile.start(target));
    tokio::time::sleep(LEAD).await;
    let before = (honest.accepted(), stored(servers, schema).await?, Instant::now());
    tokio::time::sleep(WINDOW).await;
    let (accepted, stored_now, time) = (honest.accepted(), stored(servers, schema).await?, before.2.elapsed());
    drop(attack);
    let sent = honest.stop().await?;
    let peaks = sluice.processes().into_iter().map(|watched| Ok((watched.name, peak_mib(&watched)?)));
    let peaks = peaks.collect::<anyhow::Result<_>>()?;
    wait_until_stored(servers, schema, sent).await?;
    let rate = |events: u64| events as f64 / time.as_secs_f64();
    Ok(Measured {
        accepted: rate(accepted - before.0),
        stored: rate(stored_now - before.1),
        peaks,
        answers: target.answers(),
    })
}

/// Returns how many events of the honest client are stored.
async fn stored(servers: &Servers, schema: &str) -> anyhow::Result<u64> {
    let sql = format!(
        "SELECT coalesce(sum(unique_processed), 0)::int8 FROM \"{schema}\".counters WHERE topic = '{}'",
        honest::TOPIC
    );
    let stored: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut servers.postgres().await?).await?;
    Ok(stored.cast_unsigned())
}

/// Waits until every event of the honest client that was accepted is stored, and checks that none is stored twice.
async fn wait_until_stored(servers: &Servers, schema: &str, sent: honest::Sent) -> anyhow::Result<()> {
    let began = Instant::now();
    while stored(servers, schema).await? < sent.accepted {
        ensure!(began.elapsed() < CATCH_UP, "what was accepted is not stored after {CATCH_UP:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let sql = format!(
        "SELECT (SELECT count(*) FROM \"{schema}\".events WHERE topic = '{topic}'), \
                (SELECT count(DISTINCT event_id) FROM \"{schema}\".events WHERE topic = '{topic}'), \
                (SELECT count(*) FROM \"{schema}\".counters WHERE received <> unique_processed + duplicate_dropped)",
        topic = honest::TOPIC
    );
    let (rows, distinct, unequal): (i64, i64, i64) =
        sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut servers.postgres().await?).await?;
    let possible = sent.accepted..=sent.accepted + sent.unknown;
    ensure!(
        rows == distinct && possible.contains(&rows.cast_unsigned()) && unequal == 0,
        "{rows} rows, {distinct} ids, {unequal} inexact counters; accepted {} events, and {} without an answer",
        sent.accepted,
        sent.unknown
    );
    Ok(())
}

fn row(title: &str, measured: &Measured, alone: &Measured) -> Vec<String> {
    let peak = |program: &str| measured.peaks.get(program).map_or_else(String::new, |mib| format!("{mib:.0}"));
    let share = |now: f64, normal: f64| format!("{:.2}", now / normal);
    vec![
        title.to_owned(),
        share(measured.accepted, alone.accepted),
        share(measured.stored, alone.stored),
        peak("publisher"),
        peak("aggregator"),
        measured.answers.to_string(),
    ]
}
