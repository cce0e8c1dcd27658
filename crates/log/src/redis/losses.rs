//! Notices that the log has lost entries that it had confirmed, after a failover or the restore of a backup: the last one
//! that a stream confirmed to this program is looked for after each new connection, and at intervals.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use sluice_service::durability::Durability;

use super::connect::Link;
use super::error::Fault;
use super::keys::StreamKeys;
use super::reply;
use super::script::Script;
use crate::{LogError, Position};

static LOST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lost.lua")));

/// The last entry that a stream has confirmed.
#[derive(Debug, Default)]
pub(super) struct LastConfirmed(Mutex<Option<Position>>);

impl LastConfirmed {
    /// Notes that an entry was confirmed. Appends at the same time may be noted in any order.
    pub fn note(&self, position: Position) {
        let mut last = self.lock();
        *last = (*last).max(Some(position));
    }

    /// Looks for the entry, and reports it if it was lost, once.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn check(&self, link: &Link, keys: &StreamKeys, durability: &Durability) -> Result<(), LogError> {
        let Some(confirmed) = *self.lock() else { return Ok(()) };
        let mut call = LOST.call(&[&keys.stream]);
        let answer: Result<(bool, String), Fault> = LOST.run(link, call.arg(reply::id(&confirmed))).await;
        let before = match answer.map_err(LogError::from) {
            Ok((true, before)) => before,
            Ok((false, _)) => return Ok(()),
            Err(LogError::Failed(reason)) => {
                tracing::warn!(reason, "cannot find out whether the log has lost entries");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut last = self.lock();
        if *last != Some(confirmed) {
            // It was reported by another task, or there is a newer one, which is looked for next time.
            return Ok(());
        }
        *last = None;
        let after = if before.is_empty() { "the beginning".to_owned() } else { before };
        let loss = format!(
            "Redis has lost entries of stream {} that it had confirmed: all or some from {after} up to {}",
            keys.number,
            reply::id(&confirmed)
        );
        tracing::error!(loss, "events that were answered with 202 may be lost");
        crate::metrics::loss_found();
        durability.report_loss(loss);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Position>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
