//! Reads from the kernel how much memory processes use.

use std::fs;

use anyhow::Context;

use super::cpu::{Watched, family};

/// Returns the largest resident memory so far, in MiB; of several processes, and of the children that are counted, that
/// of the largest.
pub fn peak_mib(watched: &Watched) -> anyhow::Result<f64> {
    let peaks = family(watched)?.into_iter().map(|pid| field_mib(&format!("/proc/{pid}/status"), "VmHWM:"));
    peaks.collect::<anyhow::Result<Vec<_>>>().map(|peaks| peaks.into_iter().fold(0.0, f64::max))
}

/// Returns the resident memory now, in MiB; of several processes that of the largest.
pub fn resident_mib(watched: &Watched) -> anyhow::Result<f64> {
    let now = watched.pids.iter().map(|pid| field_mib(&format!("/proc/{pid}/status"), "VmRSS:"));
    now.collect::<anyhow::Result<Vec<_>>>().map(|now| now.into_iter().fold(0.0, f64::max))
}

/// Returns the memory of the processes and their children now, in MiB, with shared memory counted once (the
/// sum of PSS). Returns `None` if the kernel refuses, as it does for processes of another user.
pub fn proportional_mib(watched: &Watched) -> anyhow::Result<Option<f64>> {
    let mut sum = 0.0;
    for pid in family(watched)? {
        match field_mib(&format!("/proc/{pid}/smaps_rollup"), "Pss:") {
            Ok(mib) => sum += mib,
            // The process has ended meanwhile, or belongs to another user.
            Err(_) if watched.pids.contains(&pid) => return Ok(None),
            Err(_) => {}
        }
    }
    Ok(Some(sum))
}

fn field_mib(path: &str, field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("{path} has no {field}"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_held_is_resident_and_was_at_most_the_peak() {
        let us = Watched::of("test", [std::process::id()]);
        let allocated = std::hint::black_box(vec![1_u8; 32 << 20]);
        let (now, proportional) = (resident_mib(&us).unwrap(), proportional_mib(&us).unwrap().unwrap());
        assert!(now > 32.0 && proportional > 32.0, "{now} and {proportional} MiB with {} bytes", allocated.len());
        assert!(peak_mib(&us).unwrap() >= now);
        drop(allocated);
    }
}
