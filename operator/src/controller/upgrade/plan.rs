//! The plan of an upgrade.

use jiff::Timestamp;

use super::estimate::Estimate;
use crate::controller::reason::Reason;

/// An upgrade that is asked for.
#[derive(Debug, Clone)]
pub struct UpgradePlan {
    /// The major version that serves.
    pub from: i32,
    /// The major version that is asked for.
    pub to: i32,
    /// The number of the attempt.
    pub attempt: i32,
    /// When the attempt began.
    pub began: Timestamp,
    /// Since when it is at this stage.
    pub since: Timestamp,
    /// What it is estimated to need, if that is known.
    pub estimate: Option<Estimate>,
    /// How far it is.
    pub stage: Stage,
}

/// What is left of former servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Previous {
    /// Their PersistentVolumeClaims.
    pub pvcs: Vec<String>,
    /// Their StatefulSets and pods. No aggregator runs before they are gone.
    pub running: Vec<String>,
    /// Whether the volumes are kept.
    pub is_kept: bool,
}

/// How far an upgrade is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It cannot begin yet.
    Held(Reason, String),
    /// The new server starts. The text says what it waits for.
    Preparing(String),
    /// The aggregators stop. The text says what it waits for.
    Stopping(String),
    /// No aggregator runs, and the Job can be created.
    Ready,
    /// The Job runs.
    Copying,
    /// The Job has ended well: the new server has everything. The text is what the Job said.
    Filled(String),
    /// The attempt has failed, and everything goes back.
    Failed(String),
}

impl UpgradePlan {
    /// What identifies the attempt.
    pub fn key(&self) -> String {
        key(self.from, self.to, self.attempt)
    }

    /// Whether the new server exists.
    pub fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::Held(..) | Stage::Failed(_))
    }

    /// Whether no aggregator may run.
    pub fn is_down(&self) -> bool {
        matches!(self.stage, Stage::Stopping(_) | Stage::Ready | Stage::Copying | Stage::Filled(_))
    }

    /// Whether the aggregators stay exactly as they are: a change would start one.
    pub fn is_copying(&self) -> bool {
        matches!(self.stage, Stage::Copying | Stage::Filled(_))
    }
}

/// Returns what identifies an attempt.
pub fn key(from: i32, to: i32, attempt: i32) -> String {
    format!("{from}-to-{to}-{attempt}")
}
