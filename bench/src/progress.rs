//! What the run is doing: a bar on a terminal, a line per block elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of a run, on standard error.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Of so many steps.
    pub fn of(steps: u64) -> anyhow::Result<Self> {
        let bar = ProgressBar::new(steps);
        bar.set_style(ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {msg}")?);
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Ok(Self { bar })
    }

    /// A step begins.
    pub fn begin(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// The step has ended, with this outcome.
    pub fn end(&self, outcome: &str) {
        self.bar.inc(1);
        let message = self.bar.message();
        let line = format!("{message}: {outcome}");
        if self.bar.is_hidden() { eprintln!("{line}") } else { self.bar.println(line) }
    }

    /// All has ended.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
