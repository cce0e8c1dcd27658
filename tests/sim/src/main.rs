//! Runs schedules for a time, or one schedule.

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Parser;
use sluice_sim::{Outcome, Planted, run};

/// The longest that one schedule may take, of which it normally takes milliseconds: also on a machine that is
/// busy with other things.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// Runs simulated schedules, one after the other, until one of them breaks a promise or the time is over.
#[derive(Debug, Parser)]
#[command(name = "sluice-sim")]
struct Cli {
    /// For how many seconds schedules are run
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the first schedule; a random one by default
    #[arg(long)]
    first: Option<u64>,
    /// Runs the schedule of this seed alone and prints its trace
    #[arg(long)]
    seed: Option<u64>,
    /// Plants a mistake, which must be found
    #[arg(long)]
    planted: Option<Planted>,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match cli.seed {
        Some(seed) => report(seed, &run(seed, cli.planted, true)?),
        None => run_many(&cli),
    }
}

/// Runs schedules from a random seed on.
fn run_many(cli: &Cli) -> anyhow::Result<ExitCode> {
    let first = cli.first.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let (began, planted) = (Instant::now(), cli.planted);
    let (mut schedules, mut simulated) = (0u64, Duration::ZERO);
    let (finished, outcomes) = mpsc::sync_channel(0);
    // On a thread of its own, so that a schedule that never ends can be reported.
    std::thread::spawn(move || {
        for seed in first.. {
            if finished.send((seed, run(seed, planted, false))).is_err() {
                return;
            }
        }
    });
    while began.elapsed() < Duration::from_secs(cli.seconds) {
        let Ok((seed, outcome)) = outcomes.recv_timeout(STUCK_AFTER) else {
            bail!("the schedule of seed {} does not end", first + schedules);
        };
        let outcome = outcome?;
        (schedules, simulated) = (schedules + 1, simulated + outcome.simulated);
        if !outcome.violations.is_empty() {
            return report(seed, &run(seed, planted, true)?);
        }
    }
    let (seconds, simulated) = (began.elapsed().as_secs_f64(), simulated.as_secs());
    let per_minute = |seconds: f64| schedules as f64 * 60.0 / seconds;
    let of_cpu = cpu_time().map(|time| format!(", {:.0} a minute of processor time", per_minute(time.as_secs_f64())));
    writeln!(
        std::io::stdout(),
        "{schedules} schedules from seed {first} on ({simulated} simulated seconds) in {seconds:.1} s, \
         {:.0} a minute{}: no promise was broken",
        per_minute(seconds),
        of_cpu.unwrap_or_default()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the processor time that this process has used: on a busy machine it tells the speed. Only on Linux.
fn cpu_time() -> Option<Duration> {
    let of_task = |task: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
        let statistics = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        statistics.split(' ').next()?.parse().ok()
    };
    Some(Duration::from_nanos(std::fs::read_dir("/proc/self/task").ok()?.filter_map(of_task).sum()))
}

/// Prints a schedule.
fn report(seed: u64, outcome: &Outcome) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in &outcome.trace {
        writeln!(out, "{line}")?;
    }
    if outcome.violations.is_empty() {
        writeln!(out, "seed {seed}: no promise was broken")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "\nseed {seed} breaks {} promises (to repeat it: make sim SIM_SEED={seed}):",
        outcome.violations.len()
    )?;
    for violation in &outcome.violations {
        writeln!(out, "  {violation}")?;
    }
    Ok(ExitCode::FAILURE)
}
