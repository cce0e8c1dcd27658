//! The schedule of backups.

use serde_json::{Map, Value, json};

use super::kinds::{ScheduledBackup, ScheduledBackupFields};
use crate::controller::build::meta;
use crate::controller::build::names::Component;
use crate::controller::cloud_native_pg::plan::ClusterPlan;
use crate::controller::plan::Plan;

/// Returns the ScheduledBackup, if there are backups. A Cluster that hibernates cannot be backed up.
pub(super) fn build(plan: &Plan, cluster: &ClusterPlan) -> Option<ScheduledBackup> {
    let backup = cluster.spec.backup.as_ref()?;
    let name = plan.names.of(Component::Postgres);
    let method = match (&backup.volume_snapshot, &backup.plugin) {
        (Some(_), _) => "volumeSnapshot",
        (None, Some(_)) => "plugin",
        (None, None) => "barmanObjectStore",
    };
    let fields = json!({
        "cluster": {"name": name},
        // Its schedules begin with the seconds.
        "schedule": format!("0 {}", backup.schedule),
        "method": method,
        "suspend": backup.suspend || plan.hibernated,
        // An archive without a backup that it follows cannot be restored.
        "immediate": true,
    });
    let mut fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    if let Some(plugin) = &backup.plugin {
        fields.insert("pluginConfiguration".to_owned(), json!({ "name": plugin.name }));
    }
    let metadata = meta::meta(plan, name, Component::Postgres);
    Some(ScheduledBackup { metadata, spec: ScheduledBackupFields(fields) })
}
