//! What processes have cost so far, as the kernel counts it.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::report::figures::{Figures, Group};
use crate::report::results::OTHER_WORK;
use crate::system::servers::Servers;

/// The unit of CPU time in `/proc`: `USER_HZ`, 100 per second on every Linux that runs this.
const MICROSECONDS_PER_TICK: f64 = 10_000.0;

/// Processes of one kind, whose cost is of interest.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What the report calls them.
    pub name: &'static str,
    /// Their ids.
    pub pids: Vec<u32>,
    /// Whether their living children belong to them (PostgreSQL's do). Those that ended always do.
    pub with_children: bool,
}

impl Watched {
    /// Processes without children.
    pub fn of<P: Into<Vec<u32>>>(name: &'static str, pids: P) -> Self {
        Self { name, pids: pids.into(), with_children: false }
    }

    /// The PostgreSQL server with its backends.
    pub fn postgres(servers: &Servers) -> Self {
        Self { with_children: true, ..Self::of("PostgreSQL", [servers.postgres.process().id()]) }
    }

    /// The Redis server.
    pub fn redis(servers: &Servers) -> Self {
        Self::of("Redis", [servers.redis.process().id()])
    }

    /// This process, which sends and measures.
    pub fn ourselves() -> Self {
        Self::of("load generator", [std::process::id()])
    }

    /// CPU time in user and kernel mode so far, in µs.
    pub fn cpu_micros(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|pid| self.cpu_micros_of(*pid)).sum()
    }

    fn cpu_micros_of(&self, pid: u32) -> anyhow::Result<f64> {
        loop {
            let before = Stat::of(pid)?;
            let living: u64 =
                if self.with_children { children(pid)?.map(|(_, child)| child.own + child.reaped).sum() } else { 0 };
            let after = Stat::of(pid)?;
            // A child that was reaped in between is in one of the sums or in none: look again.
            if before.reaped == after.reaped {
                return Ok((after.own + after.reaped + living) as f64 * MICROSECONDS_PER_TICK);
            }
        }
    }
}

/// CPU time of several processes, and of the machine, at one moment.
#[derive(Debug)]
pub struct Reading {
    at: Instant,
    watched: Vec<f64>,
    machine: f64,
}

/// What was spent between two readings, in µs.
#[derive(Debug)]
pub struct Spent {
    watched: Vec<f64>,
    others: f64,
    elapsed: f64,
}

impl Reading {
    /// Takes it.
    pub fn of(watched: &[Watched]) -> anyhow::Result<Self> {
        let machine = machine_micros()?;
        let watched = watched.iter().map(Watched::cpu_micros).collect::<anyhow::Result<_>>()?;
        Ok(Self { at: Instant::now(), watched, machine })
    }

    /// What was spent since an earlier reading of the same processes.
    pub fn since(&self, earlier: &Self) -> Spent {
        let watched: Vec<f64> = self.watched.iter().zip(&earlier.watched).map(|(now, then)| now - then).collect();
        let others = (self.machine - earlier.machine - watched.iter().sum::<f64>()).max(0.0);
        Spent { watched, others, elapsed: (self.at - earlier.at).as_secs_f64() * 1e6 }
    }
}

impl Spent {
    /// Adds what each process spent per event, all of them together, and what was not theirs.
    pub fn report(&self, figures: &mut Figures, watched: &[Watched], events: u64) {
        let per_event = |micros: f64| micros / events as f64;
        for (process, micros) in watched.iter().zip(&self.watched) {
            figures.add(Group::Cpu, process.name, per_event(*micros));
        }
        figures.add(Group::Cpu, "all", per_event(self.watched.iter().sum()));
        figures.add(Group::Course, OTHER_WORK, self.others / self.elapsed);
    }
}

/// CPU time of everything on the machine but idling, and what the host took from it.
fn machine_micros() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no sum in /proc/stat")?;
    let times: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in the users'.
    let busy = times.iter().take(8).enumerate().filter(|(column, _)| ![3, 4].contains(column));
    Ok(busy.map(|(_, ticks)| ticks * MICROSECONDS_PER_TICK).sum())
}

/// What `/proc/PID/stat` says.
struct Stat {
    parent: u32,
    /// Its own time.
    own: u64,
    /// That of the children whose end it has seen.
    reaped: u64,
}

impl Stat {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
        Self::parse(&text).with_context(|| format!("the stat of process {pid}: {text}"))
    }

    /// `pid (name) state ppid …`; the name may hold anything, so from its last parenthesis.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let Some((_, after_name)) = text.rsplit_once(')') else { bail!("no name") };
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let field = |number: usize| -> anyhow::Result<u64> {
            // Fields are counted from 1, and the first behind the name is the third.
            Ok(fields.get(number - 3).with_context(|| format!("no field {number}"))?.parse()?)
        };
        let parent = field(4)? as u32;
        Ok(Self { parent, own: field(14)? + field(15)?, reaped: field(16)? + field(17)? })
    }
}

/// The living children of a process.
fn children(parent: u32) -> anyhow::Result<impl Iterator<Item = (u32, Stat)>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process that is gone meanwhile has been reaped, which the caller sees.
    Ok(pids.filter_map(|pid| Some((pid, Stat::of(pid).ok()?))).filter(move |(_, stat)| stat.parent == parent))
}

/// A process with its living children, where they belong to it.
pub(super) fn family(watched: &Watched) -> anyhow::Result<Vec<u32>> {
    let mut all = watched.pids.clone();
    if watched.with_children {
        for pid in &watched.pids {
            all.extend(children(*pid)?.map(|(pid, _)| pid));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_read_behind_a_name_with_spaces_and_parentheses() {
        let stat = Stat::parse("7 (a) b (c)) S 3 7 7 0 -1 4 1 2 3 4 10 20 300 4000 20 0").unwrap();
        assert_eq!((stat.parent, stat.own, stat.reaped), (3, 30, 4300));
    }

    #[test]
    fn work_done_shows_in_the_next_reading() {
        let us = [Watched::of("test", [std::process::id()])];
        let started = Instant::now();
        let before = Reading::of(&us).unwrap();
        let mut spent = Reading::of(&us).unwrap().since(&before);
        while spent.watched[0] < 200_000.0 {
            spent = Reading::of(&us).unwrap().since(&before);
        }
        // All threads of this process count, so it may take as many times the elapsed time as there are
        // cores, and each of two counters is rounded to a tick. The time around both readings: a busy
        // machine may pause us within one.
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        let elapsed = started.elapsed().as_secs_f64() * 1e6;
        assert!(spent.watched[0] <= elapsed * cores + 20_000.0, "{spent:?} in {elapsed} µs");
    }
}
