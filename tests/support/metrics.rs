//! Reads a number from the Prometheus text format.

/// Returns the sum of all samples of a metric; 0 while there are none.
pub fn sum(text: &str, metric: &str) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    samples.sum()
}
