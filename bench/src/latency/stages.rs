//! Where an event waits: how long the programs' appends and transactions take on average, by their metrics.

use anyhow::{Context, ensure};
use sluice_tests::metrics::sum;

use crate::load::http::Connection;
use crate::report::figures::{Figures, Group};
use crate::system::sluice::Sluice;

/// The stages that are measured, each with the name of its histogram.
const STAGES: [(&str, &str); 2] =
    [("an append", "sluice_publish_append_seconds"), ("a transaction", "sluice_commit_seconds")];

/// The sum and the number of what each histogram has observed.
#[derive(Debug, Clone, Copy)]
pub struct Stages([(f64, f64); STAGES.len()]);

impl Stages {
    /// Reads the metrics of all programs.
    pub async fn of(sluice: &Sluice) -> anyhow::Result<Self> {
        let mut stages = [(0.0, 0.0); STAGES.len()];
        for address in sluice.addresses() {
            let text = metrics(&address).await?;
            for ((seconds, count), (_, name)) in stages.iter_mut().zip(STAGES) {
                *seconds += sum(&text, &format!("{name}_sum"));
                *count += sum(&text, &format!("{name}_count"));
            }
        }
        Ok(Self(stages))
    }

    /// Adds the mean of each stage since an earlier reading.
    pub fn report(&self, earlier: &Self, figures: &mut Figures) {
        for ((name, _), ((seconds, count), (before, count_before))) in STAGES.iter().zip(self.0.iter().zip(&earlier.0))
        {
            figures.add(Group::Stage, *name, (seconds - before) * 1000.0 / (count - count_before).max(1.0));
        }
    }
}

async fn metrics(address: &str) -> anyhow::Result<String> {
    let mut connection = Connection::open(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let response = connection.exchange(request.as_bytes()).await.context("the metrics")?;
    ensure!(response.status == 200, "the metrics were answered with {}", response.status);
    String::from_utf8(response.body).context("the metrics are no text")
}
