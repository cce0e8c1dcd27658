//! Prometheus text, read for a number.

/// The sum of all samples of a metric; 0 when it is not there (yet).
pub fn sum(text: &str, metric: &str) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    samples.sum()
}
