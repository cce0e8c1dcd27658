//! The faults of a schedule, each at a moment that follows from the seed.

use std::sync::Arc;
use std::time::Duration;

use sluice_event::key::hash128;
use sluice_store::{Maintenance, Store as _};

use crate::planted::Planted;
use crate::settings::IDEMPOTENCY_TTL;
use crate::store::locks::Work;
use crate::system::System;
use crate::world::{Clock, Link, lock};

/// The first byte of the fingerprints in a stored segment of a filter, and the bytes of the checksum at its end.
const FINGERPRINTS: usize = 72;
const CHECKSUM: usize = 16;

/// A fault that cannot happen at this time, because what it would hit does not run.
struct NotNow;

/// Causes one fault. Returns when it is over, or when it has begun and ends by itself.
pub async fn fault(system: Arc<System>) {
    while draw(&system).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn draw(system: &Arc<System>) -> Result<(), NotNow> {
    match system.world.between(0, 25) {
        0 | 1 => kill_replica(system),
        2 => freeze_replica(system).await,
        3 => freeze_and_replace(system).await,
        4 => stop_replica(system),
        5 => kill_publisher(system),
        6 => freeze_publisher(system).await,
        7 => lose_group(system),
        8 => break_link(system),
        9 => lossy_link(system),
        10 => refuse(system),
        11 => jump(system),
        12 => suspend(system).await,
        13 => claim_now(system),
        14 => remove_expired(system),
        15 => remove_replica(system),
        16 | 17 => damage_filter(system),
        18 => kill_at_work(system).await,
        19 => fail_over_at_work(system).await,
        20 | 21 => maintain(system).await,
        _ => fail_over(system).await,
    }
}

fn note(system: &System, text: impl FnOnce() -> String) {
    system.world.note("FAULT", text);
}

/// A number of a replica.
fn any_replica(system: &System) -> usize {
    system.world.index(system.settings.replicas)
}

/// A time that is often longer than the claim time.
fn long(system: &System) -> Duration {
    system.settings.claim_after * system.world.between(2, 25) as u32 / 10
}

fn kill_replica(system: &System) -> Result<(), NotNow> {
    let replica = system.replica(any_replica(system)).ok_or(NotNow)?;
    note(system, || format!("kills {}", replica.process.label));
    replica.process.kill();
    Ok(())
}

/// A replica is killed and does not come back, unless it is the last one.
fn remove_replica(system: &System) -> Result<(), NotNow> {
    let number = any_replica(system);
    let process = system.remove_replica(number).ok_or(NotNow)?;
    note(system, || format!("kills {} for good", process.label));
    process.kill();
    Ok(())
}

async fn freeze_replica(system: &System) -> Result<(), NotNow> {
    let replica = system.replica(any_replica(system)).ok_or(NotNow)?;
    note(system, || format!("freezes {}", replica.process.label));
    replica.process.freeze();
    tokio::time::sleep(long(system)).await;
    note(system, || format!("lets {} go on", replica.process.label));
    replica.process.thaw();
    Ok(())
}

/// A pod on a node that is cut off is replaced by one of the same name, and then both run. Not behind a pooler: that
/// both number their commits under one name can then hide a loss, which is a known gap.
async fn freeze_and_replace(system: &Arc<System>) -> Result<(), NotNow> {
    if system.settings.has_pooler {
        return Err(NotNow);
    }
    let number = any_replica(system);
    let replica = system.replica(number).ok_or(NotNow)?;
    note(system, || format!("freezes {} and starts another process of its name", replica.process.label));
    replica.process.freeze();
    let both_run = async {
        tokio::time::sleep(long(system)).await;
        note(system, || format!("lets {} go on beside its replacement", replica.process.label));
        replica.process.thaw();
        tokio::time::sleep(long(system)).await;
        note(system, || format!("kills the replacement of {}", replica.process.label));
    };
    system.run_double(number, both_run).await;
    Ok(())
}

fn stop_replica(system: &System) -> Result<(), NotNow> {
    let replica = system.replica(any_replica(system)).ok_or(NotNow)?;
    note(system, || format!("tells {} to stop", replica.process.label));
    replica.stop.cancel();
    Ok(())
}

fn kill_publisher(system: &System) -> Result<(), NotNow> {
    let (_, process) = system.publisher(system.world.index(system.settings.publishers)).ok_or(NotNow)?;
    note(system, || format!("kills {}", process.label));
    process.kill();
    Ok(())
}

async fn freeze_publisher(system: &System) -> Result<(), NotNow> {
    let (_, process) = system.publisher(system.world.index(system.settings.publishers)).ok_or(NotNow)?;
    note(system, || format!("freezes {}", process.label));
    process.freeze();
    tokio::time::sleep(long(system)).await;
    note(system, || format!("lets {} go on", process.label));
    process.thaw();
    Ok(())
}

/// Not behind a pooler: what is delivered again because the group was lost meets a cache that has not noticed a loss of
/// the store, which is a known gap.
fn lose_group(system: &System) -> Result<(), NotNow> {
    if system.settings.has_pooler {
        return Err(NotNow);
    }
    note(system, || "destroys the consumer group".into());
    lock(&system.log.server).lose_group();
    Ok(())
}

fn any_link(system: &System) -> Link {
    if system.world.chance(0.5) { Link::Log } else { Link::Store }
}

fn break_link(system: &System) -> Result<(), NotNow> {
    let (link, until) = (any_link(system), system.world.elapsed() + long(system));
    note(system, || format!("cuts the link to the {link:?} until {} ms", until.as_millis()));
    system.world.condition(link).down_until = until;
    Ok(())
}

fn lossy_link(system: &System) -> Result<(), NotNow> {
    let (link, until) = (any_link(system), system.world.elapsed() + long(system) * 2);
    note(system, || format!("loses much on the link to the {link:?} until {} ms", until.as_millis()));
    system.world.condition(link).lossy_until = until;
    Ok(())
}

fn refuse(system: &System) -> Result<(), NotNow> {
    let (link, until) = (any_link(system), system.world.elapsed() + long(system));
    note(system, || format!("has no room in the {link:?} until {} ms", until.as_millis()));
    system.world.condition(link).refuses_until = until;
    Ok(())
}

fn jump(system: &System) -> Result<(), NotNow> {
    let clock = [Clock::Log, Clock::Store, Clock::Publisher][system.world.index(3)];
    let distance = system.world.between(0, 600_000) as i64 - 300_000;
    note(system, || format!("moves the clock of the {clock:?} by {distance} ms"));
    system.world.jump(clock, distance);
    Ok(())
}

/// The whole system sleeps for more than a minute, as a suspended machine does: all timers are due.
async fn suspend(system: &System) -> Result<(), NotNow> {
    note(system, || "suspends everything for 61 s".into());
    tokio::time::advance(Duration::from_secs(61)).await;
    Ok(())
}

fn claim_now(system: &System) -> Result<(), NotNow> {
    note(system, || "makes every pending entry old enough to be claimed".into());
    lock(&system.log.server).age_pending();
    Ok(())
}

/// Another replica, or an administrator by the documented statement, removes what has expired at this moment.
fn remove_expired(system: &System) -> Result<(), NotNow> {
    let retention = system.settings.replica.retention.ok_or(NotNow)?;
    let now = system.world.millis(Clock::Store);
    let random = system.world.between(0, u64::MAX);
    let (removed, _) = lock(&system.store.server).remove_events(now, retention, usize::MAX, random);
    note(system, || format!("removes {removed} expired events"));
    Ok(())
}

/// A replica removes what has expired, and drops the partitions that were removed. Sometimes it is killed meanwhile, or the
/// store fails over.
async fn maintain(system: &System) -> Result<(), NotNow> {
    let replica = system.replica(any_replica(system)).ok_or(NotNow)?;
    let retention = system.settings.replica.retention;
    retention.ok_or(NotNow)?;
    note(system, || format!("lets {} remove what has expired", replica.process.label));
    let maintenance = Maintenance { receipts_ttl: IDEMPOTENCY_TTL, retention, max_duration: Duration::from_secs(5) };
    let maintained = async {
        tokio::select! {
            biased;
            () = replica.process.died() => {}
            _ = replica.store.maintain(&maintenance) => {}
        }
    };
    match system.world.between(0, 3) {
        0 => tokio::join!(maintained, kill_at_work(system)).1,
        1 => tokio::join!(maintained, fail_over_at_work(system)).1,
        _ => {
            maintained.await;
            Ok(())
        }
    }
}

/// A bit of a stored filter is flipped, a part of it is cut off or lost, or it is that of another one.
fn damage_filter(system: &System) -> Result<(), NotNow> {
    let mut server = lock(&system.store.server);
    let mut segments = server.events.catalog.segments_mut();
    if segments.is_empty() {
        return Err(NotNow);
    }
    let (damaged, other) = (system.world.index(segments.len()), system.world.index(segments.len()));
    let mut content = segments[damaged].to_vec();
    let how = match system.world.between(0, 5) {
        0 => {
            content.truncate(system.world.index(content.len()));
            "cut off"
        }
        1 => {
            content = segments[other].to_vec();
            "that of another one"
        }
        2 => {
            server.events.catalog.lose_segment(damaged);
            note(system, || format!("loses segment {damaged} of all stored filters"));
            return Ok(());
        }
        _ => {
            damage(system, &mut content);
            "damaged"
        }
    };
    *segments[damaged] = content.into();
    note(system, || format!("segment {damaged} of all stored filters is {how}"));
    Ok(())
}

/// Changes the fingerprints of a stored segment, so that it says "no" of keys that it has.
fn damage(system: &System, content: &mut [u8]) {
    let Some((content, checksum)) = content.split_last_chunk_mut::<CHECKSUM>() else { return };
    content.iter_mut().skip(FINGERPRINTS).for_each(|byte| *byte ^= 0xff);
    if system.settings.planted == Some(Planted::DamageIsNotNoticed) {
        *checksum = hash128(content);
    }
}

/// Waits until a process does something to partitions. Returns its label, and what it does.
async fn wait_for_work(system: &System) -> Option<(String, Work)> {
    let begun = async {
        loop {
            let at_work = lock(&system.store.server).locks.at_work.values().next().cloned();
            if let Some(at_work) = at_work {
                tokio::time::sleep(system.world.millis_between(0, 20)).await;
                return at_work;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3), begun).await.ok()
}

/// Kills a replica while it closes a partition, builds a filter or drops a partition.
async fn kill_at_work(system: &System) -> Result<(), NotNow> {
    let Some((label, work)) = wait_for_work(system).await else { return Ok(()) };
    let replicas = (0..system.settings.replicas).filter_map(|number| system.replica(number));
    for replica in replicas.filter(|replica| replica.process.label == label) {
        note(system, || format!("kills {label} while it is {work:?}"));
        replica.process.kill();
    }
    Ok(())
}

/// Another server takes over from the store while a replica closes a partition, builds a filter or drops a partition.
async fn fail_over_at_work(system: &System) -> Result<(), NotNow> {
    if let Some((label, work)) = wait_for_work(system).await {
        note(system, || format!("fails over while {label} is {work:?}"));
        fail_over_once(system);
    }
    Ok(())
}

/// A standby that is behind takes over from the store, or a backup is restored. Sometimes a second time, at any time or
/// while the log is replayed.
async fn fail_over(system: &Arc<System>) -> Result<(), NotNow> {
    fail_over_once(system);
    match system.world.between(0, 9) {
        0 | 1 => {
            tokio::time::sleep(long(system)).await;
            fail_over_once(system);
        }
        2 | 3 if wait_for_replay(system).await => fail_over_once(system),
        4 | 5 if wait_for_replay(system).await => kill_replayer(system),
        6 => freeze_over_failover(system).await?,
        _ => {}
    }
    Ok(())
}

/// Kills the replica that replays at this time.
fn kill_replayer(system: &System) {
    let replays = lock(&system.log.server).replayer.as_ref().map(|(replayer, _)| replayer.clone());
    let replicas = (0..system.settings.replicas).filter_map(|number| system.replica(number));
    for replica in replicas.filter(|replica| replays.as_deref() == Some(&replica.process.label)) {
        note(system, || format!("kills {}, which replays", replica.process.label));
        replica.process.kill();
    }
}

/// A replica stands still while another server takes over from the store; sometimes another process of its name runs
/// by then.
async fn freeze_over_failover(system: &Arc<System>) -> Result<(), NotNow> {
    let fails_over = async {
        tokio::time::sleep(system.world.millis_between(0, 200)).await;
        fail_over_once(system);
    };
    if system.world.chance(0.5) {
        tokio::join!(fails_over, freeze_and_replace(system)).1
    } else {
        tokio::join!(fails_over, freeze_replica(system)).1
    }
}

fn fail_over_once(system: &System) {
    let world = &system.world;
    let most = if world.chance(0.1) { usize::MAX } else { world.between(0, 10) as usize };
    let log = lock(&system.log.server);
    let keeps_numbers = world.chance(0.5);
    let (lost, violations) = lock(&system.store.server).fail_over(most, keeps_numbers, |entry| log.has(entry));
    note(system, || format!("promotes a standby that lacks the last {lost} changes"));
    violations.into_iter().for_each(|violation| world.violation(violation));
    system.store.ended.notify_waiters();
}

/// Waits until a replay is pending. Returns false if none is within a few seconds.
async fn wait_for_replay(system: &System) -> bool {
    let pending = async {
        while !lock(&system.log.server).is_replay_pending() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(system.world.millis_between(0, 50)).await;
    };
    tokio::time::timeout(Duration::from_secs(3), pending).await.is_ok()
}
