//! What happens in a round, and when: drawn from a seed, before anything happens.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sluice_tests::Backend;
use sluice_tests::proxy::Cut;
use sluice_tests::proxy::link::Network;

/// The replicas that usually run. One more exists for [`Fault::MoreAggregators`].
pub const REPLICAS: usize = 3;
/// The slots of a round, each with a fault or a pair of faults that overlap.
const SLOTS: u32 = 3;
/// From the beginning of a slot to that of the next. Each fault of a slot ends before.
const SLOT: Duration = Duration::from_millis(6_500);
/// The first fault of a round comes so long after its clients.
const FIRST: Duration = Duration::from_millis(500);
/// The longest time by which a fault is delayed in its slot.
const MAX_DELAY: u64 = 1_000;
/// The shortest and the longest duration of a fault in milliseconds. The longest exceeds the time after which the
/// entries of a replica are claimed.
const SHORTEST: u64 = 100;
const LONGEST: u64 = 4_500;
/// How long work is held back before a fault that must hit it, in milliseconds. The rest of the hold is for the fault.
const HOLD: std::ops::RangeInclusive<u64> = 400..=900;
const REST_OF_HOLD: Duration = Duration::from_millis(100);
/// From the restart of one process to that of the next, in a rolling restart.
const STAGGER: Duration = Duration::from_millis(1_200);

/// A process that faults happen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The publisher.
    Publisher,
    /// The aggregator of this number. In a standalone system, number 0 is the single process.
    Aggregator(usize),
    /// The Redis server.
    Redis,
    /// The PostgreSQL server with its backends.
    Postgres,
}

/// A path on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// From the clients to the system.
    Clients,
    /// From the publisher to Redis.
    PublisherToRedis,
    /// From the aggregator of this number to Redis.
    AggregatorToRedis(usize),
    /// From the aggregator of this number to PostgreSQL.
    AggregatorToPostgres(usize),
}

/// What goes wrong. Most faults last for some time and are then put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, then a start.
    Kill(Process),
    /// `kill -9` of all aggregators, then their starts.
    KillAggregators,
    /// SIGSTOP, then SIGCONT.
    Freeze(Process),
    /// An orderly end, then a start.
    Restart(Process),
    /// Another aggregator runs for a while.
    MoreAggregators,
    /// The network is in this state for a while.
    Network(Path, Network),
    /// Like [`Fault::Network`], but what was held back is lost at the end.
    Loss(Path, Network),
    /// The next so many appends are cut off on this side.
    CutAppends(Cut, u64),
    /// The next so many commits are cut off on this side.
    CutCommits(Cut, u64),
    /// Appends are on disk, and their answers are held back and then lost.
    LoseAppendAnswers,
    /// Batches are committed, and the answers are held back and then lost.
    LoseCommitAnswers,
    /// The next so many COPY statements receive no data, while the connection stays open.
    StallCopies(u64),
    /// The consumer group is destroyed.
    LoseGroup,
    /// PostgreSQL refuses connections to the database, and ends those that exist.
    RefuseConnections,
    /// A lock prevents that events are stored.
    LockEvents,
    /// A lock prevents writes to the file of the log, or else to that of the store, of a standalone system.
    LockFile {
        /// Whether it is the file of the log.
        is_log: bool,
    },
}

/// A fault with its times since the beginning of the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub at: Duration,
    /// When it is put right.
    pub until: Duration,
    /// The fault.
    pub fault: Fault,
}

/// The faults of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The seed that it is drawn from.
    pub seed: u64,
    /// Its number, from 0.
    pub number: u64,
    /// Its faults, in the order of their beginnings.
    pub faults: Vec<Planned>,
}

impl Round {
    /// Returns the round of this number. It depends on nothing else than these arguments.
    pub fn of(seed: u64, backend: Backend, number: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let mut faults = Vec::new();
        for slot in 0..SLOTS {
            let begin = FIRST + SLOT * slot;
            let first = draw(&mut random, backend, begin);
            if random.random_bool(0.6) {
                let second = loop {
                    let second = draw(&mut random, backend, begin);
                    if !first.iter().any(|one| second.iter().any(|other| excludes(one.fault, other.fault))) {
                        break second;
                    }
                };
                faults.extend(second);
            }
            faults.extend(first);
        }
        faults.sort_by_key(|planned| planned.at);
        Self { seed, number, faults }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {} of seed {}", self.number, self.seed)?;
        for Planned { at, until, fault } in &self.faults {
            write!(f, "\n  {:>5.2}–{:<5.2} s  {fault:?}", at.as_secs_f64(), until.as_secs_f64())?;
        }
        Ok(())
    }
}

/// Returns a random fault that begins in the slot from `begin`, or the steps of a rolling restart.
fn draw(random: &mut StdRng, backend: Backend, begin: Duration) -> Vec<Planned> {
    let at = begin + Duration::from_millis(random.random_range(0..=MAX_DELAY));
    let lasts = Duration::from_millis(random.random_range(SHORTEST..=LONGEST));
    let until = at + lasts;
    if backend == Backend::Standalone {
        let fault = of_standalone(random);
        let file = Fault::LockFile { is_log: random.random() };
        return on_work_in_flight(random, Planned { at, until, fault }, file);
    }
    let restart = |at, until, process| Planned { at, until, fault: Fault::Restart(process) };
    match random.random_range(0..18) {
        // A rolling restart.
        0 => (0..REPLICAS)
            .map(Process::Aggregator)
            .chain([Process::Publisher])
            .zip(0..)
            .map(|(process, step)| restart(begin + STAGGER * step, begin + STAGGER * (step + 1), process))
            .collect(),
        // Fewer aggregators.
        1 => (1..REPLICAS).map(|number| restart(at, until, Process::Aggregator(number))).collect(),
        _ => {
            let fault = of_cluster(random);
            let hold = match processes(fault)[..] {
                [Process::Publisher | Process::Redis] => Fault::LoseAppendAnswers,
                [Process::Postgres] => Fault::LoseCommitAnswers,
                _ => [Fault::LockEvents, Fault::LoseCommitAnswers][random.random_range(0..2)],
            };
            on_work_in_flight(random, Planned { at, until, fault }, hold)
        }
    }
}

/// Returns the fault, if it ends or stops a process often after work was held back, which is then in flight: by
/// itself a fault rarely comes within the milliseconds of a batch.
fn on_work_in_flight(random: &mut StdRng, planned: Planned, hold: Fault) -> Vec<Planned> {
    let Planned { at, until, fault } = planned;
    let is_fit = matches!(fault, Fault::Kill(_) | Fault::KillAggregators | Fault::Freeze(_) | Fault::Restart(_));
    if !is_fit || random.random_bool(0.3) {
        return vec![planned];
    }
    let lead = Duration::from_millis(random.random_range(HOLD));
    let hold = Planned { at, until: at + lead + REST_OF_HOLD, fault: hold };
    vec![hold, Planned { at: at + lead, until: until + lead, fault }]
}

fn of_standalone(random: &mut StdRng) -> Fault {
    let process = Process::Aggregator(0);
    match random.random_range(0..8) {
        0..=2 => Fault::Kill(process),
        3 => Fault::Freeze(process),
        4 => Fault::Restart(process),
        5 => Fault::LockFile { is_log: true },
        6 => Fault::LockFile { is_log: false },
        _ => of_network(random, Path::Clients),
    }
}

fn of_cluster(random: &mut StdRng) -> Fault {
    let replica = random.random_range(0..REPLICAS);
    let process = match random.random_range(0..6) {
        0 => Process::Publisher,
        1 => Process::Redis,
        2 => Process::Postgres,
        _ => Process::Aggregator(replica),
    };
    let path = match random.random_range(0..5) {
        0 => Path::Clients,
        1 => Path::PublisherToRedis,
        2 => Path::AggregatorToRedis(replica),
        _ => Path::AggregatorToPostgres(replica),
    };
    let side = if random.random() { Cut::Before } else { Cut::After };
    let times = random.random_range(1..=4);
    match random.random_range(0..16) {
        0..=2 => Fault::Kill(process),
        3 => Fault::KillAggregators,
        4 => Fault::Freeze(process),
        5 => Fault::Restart(process),
        6 => Fault::MoreAggregators,
        7 | 8 => of_network(random, path),
        9 => Fault::CutAppends(side, times),
        10 => Fault::CutCommits(side, times),
        11 => Fault::LoseAppendAnswers,
        12 => Fault::LoseCommitAnswers,
        13 => Fault::StallCopies(random.random_range(1..=2)),
        14 => Fault::LoseGroup,
        _ if random.random() => Fault::RefuseConnections,
        _ => Fault::LockEvents,
    }
}

fn of_network(random: &mut StdRng, path: Path) -> Fault {
    let delay = Duration::from_millis(random.random_range(5..=60));
    let networks = [Network::Silent, Network::Mute, Network::Slow(delay), Network::Refused];
    let network = networks[random.random_range(0..networks.len())];
    if random.random() { Fault::Network(path, network) } else { Fault::Loss(path, network) }
}

/// Whether two faults cannot be a pair, because they are the same or happen to the same process.
fn excludes(one: Fault, other: Fault) -> bool {
    let (processes, others) = (processes(one), processes(other));
    match (one, other) {
        (Fault::Network(path, _) | Fault::Loss(path, _), Fault::Network(other, _) | Fault::Loss(other, _)) => {
            path == other
        }
        _ if processes.is_empty() || others.is_empty() => {
            std::mem::discriminant(&one) == std::mem::discriminant(&other)
        }
        _ => processes.iter().any(|process| others.contains(process)),
    }
}

/// Returns the processes that a fault ends or stops.
fn processes(fault: Fault) -> Vec<Process> {
    match fault {
        Fault::Kill(process) | Fault::Freeze(process) | Fault::Restart(process) => vec![process],
        Fault::KillAggregators => (0..REPLICAS).map(Process::Aggregator).collect(),
        Fault::MoreAggregators => vec![Process::Aggregator(REPLICAS)],
        _ => Vec::new(),
    }
}

/// The rounds that the tests of this file look at.
#[cfg(test)]
const MANY: u64 = 300;

#[test]
fn the_same_seed_gives_the_same_faults_and_another_seed_gives_others() {
    for backend in [Backend::RedisPostgres, Backend::Standalone] {
        let rounds = |seed| (0..MANY).map(|number| Round::of(seed, backend, number)).collect::<Vec<_>>();
        assert_eq!(rounds(7), rounds(7));
        assert!(rounds(7).iter().zip(rounds(8)).all(|(one, other)| one.faults != other.faults));
    }
}

#[test]
fn every_kind_of_fault_comes_alone_and_in_pairs_and_ends_before_the_next_slot() {
    let mut kinds = std::collections::HashSet::new();
    for number in 0..MANY {
        let round = Round::of(1, Backend::RedisPostgres, number);
        for planned in &round.faults {
            kinds.insert(std::mem::discriminant(&planned.fault));
            assert!(planned.at < planned.until, "{round}");
            let slot = |time: Duration| (time - FIRST).as_millis() / SLOT.as_millis();
            assert_eq!(slot(planned.at), slot(planned.until), "{round}");
        }
    }
    // All kinds but LockFile, which needs a standalone system.
    assert_eq!(kinds.len(), 15);
    let counts = (0..MANY).map(|number| Round::of(1, Backend::RedisPostgres, number).faults.len());
    let (fewest, most) = counts.fold((usize::MAX, 0), |(fewest, most), count| (fewest.min(count), most.max(count)));
    assert!(fewest == SLOTS as usize && most > 2 * SLOTS as usize, "from {fewest} to {most} faults");
}
