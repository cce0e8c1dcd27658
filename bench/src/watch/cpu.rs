//! Reads from the kernel how much CPU time processes have used.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::report::figures::{Figures, Group};
use crate::report::results::OTHER_WORK;
use crate::system::servers::Servers;

/// The unit of CPU time in `/proc`: `USER_HZ`, 100 per second on every Linux that runs this.
const MICROSECONDS_PER_TICK: f64 = 10_000.0;

/// The name of the CPU time of all processes.
pub const ALL: &str = "all";
/// The name of the CPU time of all processes but the load generator.
pub const WITHOUT_LOAD: &str = "all but the load generator";

/// Processes of one kind whose CPU time and memory are measured.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Their name in the report.
    pub name: &'static str,
    /// Their ids.
    pub pids: Vec<u32>,
    /// Whether running children are counted as well, as PostgreSQL's must be. Children that have ended are
    /// always counted.
    pub with_children: bool,
}

impl Watched {
    /// Watches processes without their running children.
    pub fn of<P: Into<Vec<u32>>>(name: &'static str, pids: P) -> Self {
        Self { name, pids: pids.into(), with_children: false }
    }

    /// Watches the PostgreSQL server with its backends.
    pub fn postgres(servers: &Servers) -> Self {
        Self { with_children: true, ..Self::of("PostgreSQL", [servers.postgres.process().id()]) }
    }

    /// Watches the Redis server.
    pub fn redis(servers: &Servers) -> Self {
        Self::of("Redis", [servers.redis.process().id()])
    }

    /// Watches this process, which sends and measures.
    pub fn ourselves() -> Self {
        Self::of("load generator", [std::process::id()])
    }

    /// Returns whether this is [`Watched::ourselves`].
    fn is_load(&self) -> bool {
        self.pids == [std::process::id()]
    }

    /// Returns the CPU time in user and kernel mode so far, in µs.
    pub fn cpu_micros(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|pid| self.cpu_micros_of(*pid)).sum()
    }

    fn cpu_micros_of(&self, pid: u32) -> anyhow::Result<f64> {
        loop {
            let before = Stat::of(pid)?;
            let running: u64 =
                if self.with_children { children(pid)?.map(|(_, child)| child.own + child.reaped).sum() } else { 0 };
            let after = Stat::of(pid)?;
            // A child that was reaped in between may be counted in both sums or in none: read again.
            if before.reaped == after.reaped {
                return Ok((after.own + after.reaped + running) as f64 * MICROSECONDS_PER_TICK);
            }
        }
    }
}

/// The CPU time of several processes, and of the machine, at one time.
#[derive(Debug)]
pub struct Reading {
    at: Instant,
    watched: Vec<f64>,
    machine: f64,
}

/// The CPU time that was used between two readings, in µs.
#[derive(Debug)]
pub struct Spent {
    watched: Vec<f64>,
    others: f64,
    elapsed: f64,
}

impl Reading {
    /// Reads the CPU time now.
    pub fn of(watched: &[Watched]) -> anyhow::Result<Self> {
        let machine = machine_micros()?;
        let watched = watched.iter().map(Watched::cpu_micros).collect::<anyhow::Result<_>>()?;
        Ok(Self { at: Instant::now(), watched, machine })
    }

    /// Returns the CPU time that was used since an earlier reading of the same processes.
    pub fn since(&self, earlier: &Self) -> Spent {
        let watched: Vec<f64> = self.watched.iter().zip(&earlier.watched).map(|(now, then)| now - then).collect();
        let others = (self.machine - earlier.machine - watched.iter().sum::<f64>()).max(0.0);
        Spent { watched, others, elapsed: (self.at - earlier.at).as_secs_f64() * 1e6 }
    }
}

impl Spent {
    /// Adds the CPU time per event of each process and of all together, and the cores that other processes used.
    pub fn report(&self, figures: &mut Figures, watched: &[Watched], events: u64) {
        let per_event = |micros: f64| micros / events as f64;
        for (process, micros) in watched.iter().zip(&self.watched) {
            figures.add(Group::Cpu, process.name, per_event(*micros));
        }
        let all: f64 = self.watched.iter().sum();
        let load: f64 =
            watched.iter().zip(&self.watched).filter(|(process, _)| process.is_load()).map(|(_, cpu)| cpu).sum();
        figures.add(Group::Cpu, ALL, per_event(all));
        figures.add(Group::Cpu, WITHOUT_LOAD, per_event(all - load));
        figures.add(Group::Course, OTHER_WORK, self.others / self.elapsed);
    }
}

/// Returns the CPU time of everything on the machine except idle time, in µs. It includes the time that the host
/// took from this virtual machine.
fn machine_micros() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "))
        .context("/proc/stat has no line for all processors")?;
    let times: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; the time of guests is included in user.
    let busy = times.iter().take(8).enumerate().filter(|(column, _)| ![3, 4].contains(column));
    Ok(busy.map(|(_, ticks)| ticks * MICROSECONDS_PER_TICK).sum())
}

/// The fields of `/proc/PID/stat` that are needed; times are in ticks.
struct Stat {
    parent: u32,
    /// The time of the process itself.
    own: u64,
    /// The time of its children that have ended and that it has waited for.
    reaped: u64,
}

impl Stat {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
        Self::parse(&text).with_context(|| format!("the stat of process {pid}: {text}"))
    }

    /// Parses `pid (name) state ppid …` from the last parenthesis on, since the name may contain any character.
    /// The fields are described in proc(5).
    fn parse(text: &str) -> anyhow::Result<Self> {
        let Some((_, after_name)) = text.rsplit_once(')') else { bail!("no name") };
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let field = |number: usize| -> anyhow::Result<u64> {
            // proc(5) numbers the fields from 1; the first one after the name is number 3.
            Ok(fields.get(number - 3).with_context(|| format!("no field {number}"))?.parse()?)
        };
        let parent = field(4)? as u32;
        Ok(Self { parent, own: field(14)? + field(15)?, reaped: field(16)? + field(17)? })
    }
}

/// Returns the running children of a process.
fn children(parent: u32) -> anyhow::Result<impl Iterator<Item = (u32, Stat)>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process that has ended meanwhile is skipped; the caller notices that it was reaped.
    Ok(pids.filter_map(|pid| Some((pid, Stat::of(pid).ok()?))).filter(move |(_, stat)| stat.parent == parent))
}

/// Returns the ids of the processes, and of their running children if these are counted.
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
    fn the_times_are_read_after_a_name_with_spaces_and_parentheses() {
        let stat = Stat::parse("7 (a) b (c)) S 3 7 7 0 -1 4 1 2 3 4 10 20 300 4000 20 0").unwrap();
        assert_eq!((stat.parent, stat.own, stat.reaped), (3, 30, 4300));
    }

    /// A process that does nothing but use CPU, until it is dropped.
    struct Busy(std::process::Child);

    impl Busy {
        fn start() -> Self {
            Self(std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn work_done_shows_in_the_next_reading() {
        // Not this process: it also counts the children that other tests start and wait for.
        let busy = Busy::start();
        let watched = [Watched::of("test", [busy.0.id()])];
        let started = Instant::now();
        let before = Reading::of(&watched).unwrap();
        let mut spent = Reading::of(&watched).unwrap().since(&before);
        while spent.watched[0] < 200_000.0 {
            spent = Reading::of(&watched).unwrap().since(&before);
        }
        // The process has one thread, so the limit is the elapsed time, and a tick for the rounding of each of
        // two counters. The elapsed time includes both readings, since a busy machine may pause this thread
        // during one.
        let elapsed = started.elapsed().as_secs_f64() * 1e6;
        assert!(spent.watched[0] <= elapsed + 20_000.0, "{spent:?} in {elapsed} µs");
    }
}
