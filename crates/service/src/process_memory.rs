//! The memory that the process uses, as a metric with the name that Prometheus' client libraries give it.

/// Sets the metric to the resident memory at this moment. On systems without `/proc` the metric does not exist.
pub(crate) fn measure() {
    let status = std::fs::read_to_string("/proc/self/status");
    if let Some(bytes) = status.ok().as_deref().and_then(resident) {
        metrics::gauge!(crate::metrics::RESIDENT_MEMORY_BYTES.name).set(bytes as f64);
    }
}

/// Returns the resident memory in bytes, from a line such as `VmRSS:     6088 kB` (see proc(5)).
fn resident(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tsluice\nVmPeak:\t  100 kB\nVmRSS:\t    6088 kB\nThreads:\t3\n";
        assert_eq!(resident(status), Some(6088 * 1024));
        assert_eq!(resident("Name:\tsluice\n"), None);
        assert_eq!(resident("VmRSS:\tmuch\n"), None);
    }
}
