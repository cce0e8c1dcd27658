//! One schedule: load and faults, then peace, then the comparison.

use std::sync::Arc;
use std::time::Duration;

use sluice_event::ambient;
use tokio::task::JoinSet;

use crate::planted::Planted;
use crate::settings::Settings;
use crate::system::System;
use crate::trace::Trace;
use crate::world::{EPOCH_MILLIS, Link, World, lock};
use crate::{check, clients, faults};

/// How long the system may take to become quiet after the last fault, if the log's clock was not set back.
const QUIET_WITHIN: Duration = Duration::from_secs(300);

/// The result of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The promises that were broken.
    pub violations: Vec<String>,
    /// What happened, if it was recorded.
    pub trace: Vec<String>,
    /// How long the schedule took in simulated time.
    pub simulated: Duration,
}

/// Runs the schedule of a seed. `record` says whether its trace is recorded, which takes longer.
///
/// # Errors
/// When the runtime cannot be created.
pub fn run(seed: u64, planted: Option<Planted>, record: bool) -> anyhow::Result<Outcome> {
    let trace = record.then(Trace::default);
    let _logging = trace.clone().map(|trace| {
        let logged = tracing_subscriber::fmt().with_writer(trace).without_time().with_ansi(false);
        tracing::subscriber::set_default(logged.with_max_level(tracing::Level::DEBUG).finish())
    });
    ambient::simulate_for_tests(seed, EPOCH_MILLIS as i64 * 1_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let (violations, simulated) = runtime.block_on(schedule(seed, planted, trace.clone()));
    // Before the runtime drops its tasks, which is not a part of the schedule.
    let trace = trace.map(|trace| trace.take()).unwrap_or_default();
    drop(runtime);
    ambient::end_simulation_for_tests();
    Ok(Outcome { violations, trace, simulated })
}

async fn schedule(seed: u64, planted: Option<Planted>, trace: Option<Trace>) -> (Vec<String>, Duration) {
    let world = Arc::new(World::new(seed, trace));
    let settings = Settings::draw(&world, planted);
    world.note("SCHEDULE", || format!("{settings:?}"));
    let system = Arc::new(System::new(world.clone(), settings));
    system.start();
    let mut clients = JoinSet::new();
    for number in 0..system.settings.clients {
        clients.spawn(clients::client(system.clone(), format!("client-{number}")));
    }
    let mut faults = JoinSet::new();
    for _ in 0..system.settings.faults {
        let at = world.millis_between(0, system.settings.load.as_millis() as u64);
        let system = system.clone();
        faults.spawn(async move {
            tokio::time::sleep(at).await;
            faults::fault(system).await;
        });
    }
    let finished = |task: Result<(), tokio::task::JoinError>| {
        if let Err(error) = task {
            world.violation(format!("the simulation itself failed: {error}"));
        }
    };
    while let Some(task) = faults.join_next().await {
        finished(task);
    }
    world.note("SCHEDULE", || "the faults are over".into());
    system.thaw_all();
    for link in [Link::Log, Link::Store] {
        *world.condition(link) = crate::world::Condition::default();
    }
    while let Some(task) = clients.join_next().await {
        finished(task);
    }
    world.note("SCHEDULE", || "the clients have finished".into());
    let within = QUIET_WITHIN + world.log_set_back();
    if tokio::time::timeout(within, quiet(&system)).await.is_err() {
        let unfinished = lock(&system.log.server).unfinished();
        let replay = lock(&system.log.server).is_replay_pending();
        world.violation(format!(
            "{unfinished} entries are still not acknowledged after {within:?}, or the store is behind (replay pending: \
             {replay})"
        ));
    }
    world.note("SCHEDULE", || "the system is quiet".into());
    check::check(&system);
    (world.violations(), world.elapsed())
}

/// Waits until every entry is acknowledged, nothing is under way, and the store has all commits that the log knows.
async fn quiet(system: &System) {
    let is_in_step = || {
        let log = lock(&system.log.server);
        !log.is_replay_pending() && lock(&system.store.server).stored_marks().behind(&log.marks()).is_empty()
    };
    while lock(&system.log.server).unfinished() > 0
        || system.world.late() > 0
        || !lock(&system.store.server).transactions.is_empty()
        || !is_in_step()
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
