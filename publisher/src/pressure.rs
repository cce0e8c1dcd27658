//! Backpressure: while the log is too full, requests are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use sluice_log::{LogError, LogWriter, Pressure};
use sluice_service::backoff::Backoff;
use sluice_service::problem::Problem;

use crate::problems::{backlog_full, log_full, log_memory_full};

/// How often the log is asked how full it is while requests are accepted, and while they are refused.
const POLL_OPEN: Duration = Duration::from_millis(500);
const POLL_CLOSED: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// What the log has no room for. Each has a refusal of its own, because each asks for another repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Full {
    /// Too many events are accepted and not stored yet.
    Backlog = 1,
    /// Its memory is short.
    Memory = 2,
    /// Its disk is full.
    Disk = 3,
}

impl Full {
    const ALL: [Self; 3] = [Self::Backlog, Self::Memory, Self::Disk];

    /// Returns the refusal.
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Backlog => backlog_full(),
            Self::Memory => log_memory_full(),
            Self::Disk => log_full(),
        }
    }
}

/// Open while the log has room. An append that reports a full log closes it; only asking the log how
/// full it is opens it again.
pub(crate) struct Gate {
    max_backlog: u64,
    max_memory: f64,
    /// [`OPEN`], or the value of a [`Full`].
    state: AtomicU8,
}

const OPEN: u8 = 0;

impl Gate {
    pub(crate) fn new(max_backlog: u64, max_memory: f64) -> Self {
        Self { max_backlog, max_memory, state: AtomicU8::new(OPEN) }
    }

    /// Refuses a request while the log is too full.
    ///
    /// # Errors
    /// `backlog_full`, `log_memory_full` or `log_full`.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let state = self.state.load(Ordering::Relaxed);
        match Full::ALL.into_iter().find(|&full| full as u8 == state) {
            Some(full) => Err(full.problem()),
            None => Ok(()),
        }
    }

    /// Closes the gate when the backlog of one stream is too long. It never opens it: one stream's backlog
    /// is only a part of the whole.
    pub(crate) fn observe(&self, backlog: Option<u64>) {
        if let Some(backlog) = backlog.filter(|&events| events >= self.max_backlog) {
            self.close(Full::Backlog, &format!("{backlog} events are not stored yet"));
        }
    }

    /// Refuses requests from now on.
    pub(crate) fn close(&self, full: Full, reason: &str) {
        if self.state.swap(full as u8, Ordering::Relaxed) == full as u8 {
            return;
        }
        match full {
            Full::Backlog | Full::Memory => tracing::warn!(reason, "the log is too full: refusing requests"),
            Full::Disk => tracing::error!(reason, "the disk of the log is full: refusing requests"),
        }
    }

    fn open(&self) {
        if self.state.swap(OPEN, Ordering::Relaxed) != OPEN {
            tracing::info!("the log has room again: taking requests");
        }
    }

    /// Asks the log at intervals how full it is. Never returns.
    pub(crate) async fn watch(self: Arc<Self>, log: Arc<dyn LogWriter>) {
        let mut backoff = Backoff::new(POLL_CLOSED, MAX_BACKOFF);
        loop {
            let wait = match log.pressure().await {
                Ok(pressure) => {
                    backoff.reset();
                    self.update(pressure);
                    if self.state.load(Ordering::Relaxed) == OPEN { POLL_OPEN } else { POLL_CLOSED }
                }
                Err(LogError::NoSpace(reason)) => {
                    backoff.reset();
                    set_metrics(Pressure { backlog: None, memory: None });
                    self.close(Full::Disk, &reason);
                    POLL_CLOSED
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot ask how full the log is");
                    set_metrics(Pressure { backlog: None, memory: None });
                    // Requests are not refused because of an old measurement: an append reports an unavailable log.
                    self.open();
                    backoff.next()
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Opens or closes the gate after a measurement of the whole log.
    fn update(&self, pressure: Pressure) {
        set_metrics(pressure);
        match pressure {
            Pressure { backlog: Some(backlog), .. } if backlog >= self.max_backlog => self.observe(Some(backlog)),
            Pressure { memory: Some(memory), .. } if memory >= self.max_memory => {
                self.close(Full::Memory, &format!("{:.0}% of its memory is in use", memory * 100.0));
            }
            _ => self.open(),
        }
    }
}

/// Sets the gauges. An unknown value is neither zero nor the one before: Prometheus shows NaN as a gap.
fn set_metrics(pressure: Pressure) {
    metrics::gauge!(crate::metrics::BACKLOG_EVENTS.name).set(pressure.backlog.map_or(f64::NAN, |events| events as f64));
    metrics::gauge!(crate::metrics::LOG_MEMORY_RATIO.name).set(pressure.memory.unwrap_or(f64::NAN));
}

#[cfg(test)]
mod tests {
    use sluice_service::code::Code;

    use super::*;

    fn refused_after(pressures: &[Pressure]) -> Option<Code> {
        let gate = Gate::new(100, 0.8);
        for &pressure in pressures {
            gate.update(pressure);
        }
        gate.check().err().map(|problem| problem.code())
    }

    #[test]
    fn a_full_log_refuses_until_it_has_room() {
        let at = |backlog, memory| Pressure { backlog, memory };
        assert_eq!(refused_after(&[at(Some(99), Some(0.7))]), None);
        assert_eq!(refused_after(&[at(Some(100), Some(0.1))]), Some(Code::BacklogFull));
        assert_eq!(refused_after(&[at(Some(0), Some(0.8))]), Some(Code::LogMemoryFull));
        assert_eq!(refused_after(&[at(Some(100), None), at(Some(99), None)]), None);
        // An unknown state does not count as full: an append reports a full log.
        assert_eq!(refused_after(&[at(None, None)]), None);
    }

    #[test]
    fn a_full_disk_has_a_refusal_of_its_own_until_the_log_has_room() {
        let gate = Gate::new(100, 0.8);
        gate.close(Full::Disk, "the disk is full");
        assert_eq!(gate.check().unwrap_err().code(), Code::LogFull);
        gate.update(Pressure { backlog: Some(0), memory: None });
        assert!(gate.check().is_ok());
    }

    #[test]
    fn the_backlog_that_an_append_reports_closes_the_gate() {
        let gate = Gate::new(100, 0.8);
        gate.observe(Some(99));
        assert!(gate.check().is_ok());
        gate.observe(Some(100));
        assert_eq!(gate.check().unwrap_err().code(), Code::BacklogFull);
        gate.observe(Some(0));
        assert!(gate.check().is_err(), "one stream's backlog says nothing of the others");
    }
}
