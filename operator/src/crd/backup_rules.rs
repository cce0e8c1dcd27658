//! CEL rules of backups and restores.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use schemars::Schema;

use super::add_rules::{add, at_root};

/// Adds the rule of the schedule. The operator checks its numbers.
pub(super) fn backup(schema: &mut Schema) {
    let schedule = (
        "!has(self.schedule) || self.schedule.matches('^[^ ]+( +[^ ]+){4}$')",
        "backup.schedule must have five fields: minute, hour, day of the month, month and day of the week",
        ".schedule",
    );
    add(schema, &[schedule]);
}

/// Adds the rule of a place for backups.
pub(super) fn place(schema: &mut Schema) {
    add(schema, &[("has(self.claim) != has(self.s3)", "either claim or s3 must be given, and not both", ".claim")]);
}

/// Returns the rules about a restore and other parts of the spec.
pub(super) fn root() -> Vec<ValidationRule> {
    at_root(&[
        (
            "!has(self.spec.restoreFrom) || has(oldSelf.spec.restoreFrom)",
            "spec.restoreFrom can be given only when the resource is created: use spec.postgres.managed.restore",
            ".spec.restoreFrom",
        ),
        (
            "!has(self.spec.restoreFrom) || !has(self.spec.postgres.external)",
            "spec.restoreFrom needs a managed PostgreSQL, and spec.postgres.external is given",
            ".spec.restoreFrom",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::crd::schema::server::{object, refusals};

    fn refused(new: Value, old: Option<Value>, names: &str) {
        let old = old.map(|old| object("shop", old));
        let refused = refusals(&object("shop", new.clone()), old.as_ref());
        assert!(refused.iter().any(|message| message.contains(names)), "{new}: {refused:?} does not name {names}");
    }

    #[test]
    fn a_backup_has_a_schedule_of_five_fields_and_one_place() {
        let backup =
            |schedule: &str, to: Value| json!({"postgres": {"managed": {"backup": {"schedule": schedule, "to": to}}}});
        let s3 = json!({"bucket": "backups", "credentialsSecret": "keys"});
        refused(backup("0 3 * * * *", json!({"claim": "c"})), None, "backup.schedule");
        refused(backup("every day", json!({"claim": "c"})), None, "backup.schedule");
        refused(backup("0 3 * * *", json!({})), None, "either claim or s3");
        refused(backup("0 3 * * *", json!({"claim": "c", "s3": s3})), None, "either claim or s3");
        for to in [json!({"claim": "c"}), json!({"s3": s3})] {
            assert_eq!(refusals(&object("shop", backup("0 3 * * *", to)), None), Vec::<String>::new());
        }
    }

    #[test]
    fn only_a_new_resource_can_begin_with_a_backup() {
        let from = |claim: &str| json!({"restoreFrom": {"name": "old", "from": {"claim": claim}}});
        assert_eq!(refusals(&object("shop", from("a")), None), Vec::<String>::new());
        refused(from("a"), Some(json!({})), "spec.restoreFrom can be given only when");
        for new in [from("b"), json!({})] {
            let old = object("shop", from("a"));
            assert_eq!(
                refusals(&object("shop", new), Some(&old)),
                Vec::<String>::new(),
                "it may be corrected or removed"
            );
        }
        let mut external = from("a");
        external["postgres"] = json!({"external": {"secretRef": {"name": "db"}}});
        refused(external, None, "spec.restoreFrom needs a managed PostgreSQL");
    }
}
