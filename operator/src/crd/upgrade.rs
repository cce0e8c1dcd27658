//! How a managed PostgreSQL is brought to a newer major version, and what the status says about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the server is brought to a newer major version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UpgradeSpec {
    /// Whether the volumes of former major versions are kept. If false, they are deleted as soon as nothing uses them any
    /// more, also those of earlier upgrades.
    pub keep_previous: bool,
    /// If true, an upgrade begins although it is estimated that Redis cannot hold the events that arrive meanwhile, or
    /// although that is not known. When Redis is full, publishing answers 429 until the upgrade has ended.
    pub ignore_estimate: bool,
}

impl Default for UpgradeSpec {
    fn default() -> Self {
        Self { keep_previous: true, ignore_estimate: false }
    }
}

/// The managed PostgreSQL as it is. An absent value is written as null, so that a merge patch removes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PostgresStatus {
    /// The major version that serves.
    pub version: i32,
    /// Name of its StatefulSet. Its pod has this name followed by `-0`.
    pub stateful_set: String,
    /// The upgrade that is under way, or the last one.
    pub upgrade: Option<UpgradeStatus>,
    /// The PersistentVolumeClaims of former major versions.
    pub previous: Vec<String>,
}

/// An upgrade to another major version. An absent value is written as null, so that a merge patch removes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UpgradeStatus {
    /// The major version that it begins with.
    pub from: i32,
    /// The major version that it leads to.
    pub to: i32,
    /// How far it is.
    pub state: UpgradeState,
    /// The number of the attempt.
    pub attempt: i32,
    /// The version of the spec (`metadata.generation`) with which the attempt ended.
    pub generation: Option<i64>,
    /// When the attempt began.
    pub began: Option<String>,
    /// Since when it has this state.
    pub since: Option<String>,
    /// What was estimated before.
    pub estimate: Option<EstimateStatus>,
    /// What was done, or why it failed.
    pub message: Option<String>,
}

/// What an upgrade was estimated to need.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EstimateStatus {
    /// Bytes of the tables and indexes.
    pub database_bytes: i64,
    /// Seconds during which events wait in Redis.
    pub seconds: i64,
    /// Events that arrive meanwhile.
    pub events: i64,
    /// Events for which Redis has room.
    pub room: Option<i64>,
}

/// How far an upgrade is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeState {
    /// The new server is being started, and everything else goes on.
    #[default]
    Preparing,
    /// The aggregators are being stopped. From now on events wait in Redis.
    Stopping,
    /// The rows are being copied and compared.
    Copying,
    /// The aggregators start again with the new server, as soon as the former one has stopped.
    Switching,
    /// The new server serves.
    Succeeded,
    /// Everything is as before.
    Failed,
}
