//! Backups of a managed PostgreSQL, and what is restored from them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backup_rules;

/// When and where the managed PostgreSQL is backed up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = backup_rules::backup)]
#[serde(rename_all = "camelCase")]
pub struct BackupSpec {
    /// When a backup is made, in UTC: minute, hour, day of the month, month and day of the week, as in cron. `0 3 * * *`
    /// is every day at three.
    #[schemars(length(min = 9, max = 100))]
    pub schedule: String,
    /// Number of backups to keep. Older ones are removed after each new one.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "seven")]
    pub keep: i32,
    /// Where the backups are stored, below a folder `NAMESPACE/NAME` of this resource.
    pub to: BackupPlace,
    /// If true, no backup is made.
    #[serde(default)]
    pub suspend: bool,
}

/// Where backups are stored: in a volume or in an S3 bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = backup_rules::place)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupPlace {
    /// Name of a PersistentVolumeClaim in this namespace.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// A bucket of S3, or of a server that speaks its protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Place>,
}

/// A bucket of S3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Place {
    /// Name of the bucket.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"), length(max = 63))]
    pub bucket: String,
    /// A folder in the bucket, such as `team/backups`.
    #[schemars(regex(pattern = r"^([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?$"), length(max = 200))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// URL of a server other than that of AWS. With `http://` the backups are sent without encryption.
    #[schemars(regex(pattern = r"^https?://[^/?#@\s]+/?$"), length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region of the bucket.
    #[schemars(regex(pattern = r"^[a-z0-9-]+$"), length(min = 1, max = 63))]
    #[serde(default = "us_east_1")]
    pub region: String,
    /// Name of a Secret with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, and if the server has a CA of its
    /// own, `ca.crt`.
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: String,
}

/// A backup that replaces what is in the managed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSpec {
    /// Name of the backup, such as `20260102-030405-678`.
    #[schemars(regex(pattern = r"^[0-9]{8}-[0-9]{6}-[0-9]{3}$"), length(max = 19))]
    pub backup: String,
    /// Any text. Each backup is restored once for each text: another one repeats a restore.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]*$"), length(max = 63))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
}

/// A backup of another resource with which a new resource begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreFromSpec {
    /// Where the backups of the other resource are.
    pub from: BackupPlace,
    /// Name of the other resource.
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"), length(max = 40))]
    pub name: String,
    /// Namespace of the other resource; if absent, that of this one.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"), length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the backup; if absent, the newest one.
    #[schemars(regex(pattern = r"^[0-9]{8}-[0-9]{6}-[0-9]{3}$"), length(max = 19))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// The backups of a resource. An absent value is written as null, so that a merge patch removes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStatus {
    /// Name of the last backup that was stored.
    pub last: Option<String>,
    /// When it was begun. What was stored until then is in it.
    pub last_time: Option<String>,
    /// Bytes of its dump.
    pub last_size: Option<i64>,
    /// When a backup failed the last time.
    pub failed_time: Option<String>,
    /// Why it failed.
    pub failed_message: Option<String>,
    /// When the next backup begins.
    pub next_time: Option<String>,
}

/// The restore that was asked for last. An absent value is written as null, so that a merge patch removes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreStatus {
    /// The restore: the backup and its `id`, or where it is from.
    pub key: String,
    /// Whether it has ended.
    pub state: RestoreState,
    /// When it ended.
    pub time: Option<String>,
    /// What was done, or why it failed.
    pub message: Option<String>,
}

/// Whether a restore has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub enum RestoreState {
    #[default]
    Running,
    Succeeded,
    Failed,
}

fn seven() -> i32 {
    7
}
fn us_east_1() -> String {
    "us-east-1".to_owned()
}
