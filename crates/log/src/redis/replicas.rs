//! Waits until replicas have what was appended, so that a failover to one of them does not lose it.
//!
//! `WAIT` and `WAITAOF` are about the writes of the connection on which they are sent, and hold up what is sent on it
//! afterwards. So an append and its wait have a connection for themselves ([`super::node::Session`]), and several such
//! connections let the waits of concurrent appends overlap.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use redis::{Value, from_redis_value};

use super::connect::LinkSession;
use super::error::{Fault, unexpected};
use super::node::Request;
use crate::LogError;

/// How long the replicas are waited for before they are asked again, at first. It doubles each time.
const FIRST_SLICE: Duration = Duration::from_millis(20);

/// The number of replicas that must have each entry before it counts as appended, and how they are asked.
pub(super) struct Replicas {
    number: u16,
    timeout: Duration,
    /// The [`Promise`] that was last found, to report a change.
    reported: AtomicU8,
}

/// What the replicas have confirmed.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Promise {
    /// The entry is on their disks.
    OnDisk = 1,
    /// The entry has arrived.
    Received = 2,
}

impl Replicas {
    pub fn new(number: u16, timeout: Duration) -> Self {
        Self { number, timeout, reported: AtomicU8::new(0) }
    }

    /// Waits until the replicas have confirmed what was written last in this session.
    ///
    /// # Errors
    /// When too few have done so in time. The entry is in the log of the primary, and may reach them later.
    pub async fn wait(&self, session: &mut LinkSession<'_>) -> Result<(), Fault> {
        let (promise, confirmed) = self.confirmed(session).await?;
        self.report(promise);
        if confirmed >= u64::from(self.number) {
            return Ok(());
        }
        let what = match promise {
            Promise::OnDisk => "have the entry on disk (they need appendonly yes)",
            Promise::Received => "have received the entry",
        };
        let text = format!("{confirmed} of {} replicas {what} after {:?}", self.number, self.timeout);
        Err(LogError::Unavailable(text).into())
    }

    /// Returns how many replicas have confirmed, and what.
    async fn confirmed(&self, session: &mut LinkSession<'_>) -> Result<(Promise, u64), Fault> {
        if !session.session.has_no_waitaof {
            match self.ask(session, "WAITAOF").await {
                Err(Fault::Log(LogError::Failed(refusal))) if has_no_waitaof(&refusal) => {
                    session.session.has_no_waitaof = true
                }
                other => return Ok((Promise::OnDisk, other?)),
            }
        }
        Ok((Promise::Received, self.ask(session, "WAIT").await?))
    }

    /// Returns how many replicas have confirmed. Asks again after short times: a replica that is asked while it writes to
    /// its disk does not tell when it has done so, but only what it has at its next report, after up to a second.
    async fn ask(&self, session: &mut LinkSession<'_>, name: &str) -> Result<u64, Fault> {
        let deadline = Instant::now() + self.timeout;
        let mut slice = FIRST_SLICE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let confirmed = self.ask_once(session, name, slice.min(left)).await?;
            if confirmed >= u64::from(self.number) || slice >= left {
                return Ok(confirmed);
            }
            slice *= 2;
        }
    }

    async fn ask_once(&self, session: &mut LinkSession<'_>, name: &str, wait: Duration) -> Result<u64, Fault> {
        let mut command = redis::cmd(name);
        if name == "WAITAOF" {
            // The primary too: with `appendfsync everysec` it answers before the entry is on its disk.
            command.arg(1);
        }
        // 0 would wait without a limit.
        command.arg(self.number).arg(wait.as_millis().max(1) as u64);
        let answer = session.send(&Request::Command(&command), wait).await?;
        let confirmed = match answer {
            Value::Int(replicas) => Ok(replicas.unsigned_abs()),
            answer => from_redis_value::<(u64, u64)>(answer)
                .map(|(primary, replicas)| if primary == 0 { 0 } else { replicas })
                .map_err(|_| unexpected(name)),
        };
        Ok(confirmed?)
    }

    fn report(&self, promise: Promise) {
        if self.reported.swap(promise as u8, Ordering::Relaxed) == promise as u8 {
            return;
        }
        let replicas = self.number;
        match promise {
            Promise::OnDisk => tracing::info!(replicas, "requests are answered when replicas have them on disk"),
            Promise::Received => tracing::warn!(
                replicas,
                "requests are answered when replicas have received them, not when they have them on disk: that needs \
                 Redis or Valkey 7.2 with appendonly yes"
            ),
        }
    }
}

/// Whether the server cannot wait for disks: it is older than the command, or has no append-only file.
fn has_no_waitaof(refusal: &str) -> bool {
    refusal.contains("unknown command") || refusal.contains("appendonly is disabled")
}
