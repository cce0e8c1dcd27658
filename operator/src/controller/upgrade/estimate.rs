//! What an upgrade needs: how long events wait in Redis, how many arrive meanwhile, and whether they fit. It is pure.

use super::measured::Measured;
use crate::crd::{EstimateStatus, LimitsSpec};

/// Bytes of tables and indexes that are copied and compared in a second. It is half of what docs/decisions/0015 measured on
/// two cores with other work beside it, so that an ordinary machine is faster.
pub const BYTES_PER_SECOND: i64 = 4 << 20;
/// Seconds for stopping the aggregators, for the Job's pod, and for starting the aggregators again.
pub const FIXED_SECONDS: i64 = 60;
/// The share of Redis' memory from which on publishers refuse requests: the default of `--max-memory`.
const MAX_MEMORY: f64 = 0.8;
/// The default of `--max-backlog`.
const MAX_BACKLOG: i64 = 1_000_000;
/// What an event costs in Redis beside its bytes in the entry, as a factor. The memory is measured with all events in it.
const OVERHEAD: f64 = 1.3;
/// The bytes of an event in the log if none has been published.
const EVENT_BYTES: f64 = 512.0;
/// How much of the new volume may be filled by what is copied: the rest is for the write-ahead log and for growth.
const MAX_VOLUME_PERCENT: i64 = 70;

/// What an upgrade or a restore needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of the tables and indexes.
    pub database_bytes: i64,
    /// Seconds during which events wait in Redis.
    pub seconds: i64,
    /// Events that wait then: those of now and those that arrive.
    pub events: i64,
    /// Events that can wait; `None` means that it is not known.
    pub room: Option<i64>,
}

impl Estimate {
    /// Computes the estimate. `max_memory` is that of Redis in bytes; it is not known of an external one.
    ///
    /// # Errors
    /// What is not known.
    pub fn new(measured: Option<&Measured>, max_memory: Option<i64>, limits: &LimitsSpec) -> Result<Self, String> {
        let measured = measured.ok_or("nothing is known about the load yet")?;
        let database_bytes =
            measured.database_bytes.ok_or("the aggregators have not reported the size of the tables")?;
        let rate = measured.events_per_second.ok_or("it is not known yet how many events arrive in a second")?;
        let seconds = FIXED_SECONDS + database_bytes / BYTES_PER_SECOND;
        let backlog = measured.backlog.unwrap_or_default();
        let events = backlog + (rate * seconds as f64).ceil() as i64;
        let max_backlog = limits.max_backlog.unwrap_or(MAX_BACKLOG);
        let room = max_memory.zip(measured.memory_ratio).map(|(max_memory, ratio)| {
            let free = (MAX_MEMORY - ratio).max(0.0) * max_memory as f64;
            let event = measured.event_bytes.unwrap_or(EVENT_BYTES).max(1.0) * OVERHEAD;
            (backlog + (free / event) as i64).min(max_backlog)
        });
        Ok(Self { database_bytes, seconds, events, room })
    }

    /// Checks that everything fits.
    ///
    /// # Errors
    /// What does not fit, and what helps.
    pub fn check(&self, volume_bytes: i64, ignore: bool) -> Result<(), String> {
        // Nothing can be ignored here: the copy would fail.
        if self.database_bytes > volume_bytes / 100 * MAX_VOLUME_PERCENT {
            return Err(format!(
                "the tables have {} MiB, and may fill {MAX_VOLUME_PERCENT} percent of the new volume of {} MiB: raise \
                 spec.postgres.managed.storage.size",
                mebibytes(self.database_bytes),
                mebibytes(volume_bytes)
            ));
        }
        match self.room {
            _ if ignore => Ok(()),
            Some(room) if self.events > room => Err(format!(
                "{}: raise spec.redis.managed.memory, do it when fewer events arrive, or set \
                 spec.postgres.managed.upgrade.ignoreEstimate",
                self.text()
            )),
            Some(_) => Ok(()),
            None => Err(format!(
                "{}: check that they fit, and set spec.postgres.managed.upgrade.ignoreEstimate",
                self.text()
            )),
        }
    }

    /// The estimate in words.
    pub fn text(&self) -> String {
        let room = match self.room {
            Some(room) => format!("Redis has room for {room}"),
            None => "it is not known for how many Redis has room".to_owned(),
        };
        format!(
            "{} MiB take about {} s, during which {} events wait, and {room}",
            mebibytes(self.database_bytes),
            self.seconds,
            self.events
        )
    }

    /// The estimate for the status.
    pub fn status(&self) -> EstimateStatus {
        EstimateStatus {
            database_bytes: self.database_bytes,
            seconds: self.seconds,
            events: self.events,
            room: self.room,
        }
    }

    /// Returns the estimate that a status has.
    pub fn of_status(status: &EstimateStatus) -> Self {
        Self {
            database_bytes: status.database_bytes,
            seconds: status.seconds,
            events: status.events,
            room: status.room,
        }
    }
}

fn mebibytes(bytes: i64) -> i64 {
    bytes >> 20
}
