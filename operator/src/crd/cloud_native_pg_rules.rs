//! CEL rules of a PostgreSQL that CloudNativePG runs, most of which CloudNativePG has too: a resource is refused at once,
//! and not when its Cluster is applied.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use schemars::Schema;

use super::add_rules::{add, at_root};
use super::parameters;

/// Returns the rules about it and other parts of the spec.
pub(super) fn root() -> Vec<ValidationRule> {
    at_root(&[
        (
            "has(self.spec.postgres.cloudNativePG) == has(oldSelf.spec.postgres.cloudNativePG)",
            "spec.postgres cannot change to or from cloudNativePG: stored events would be left behind",
            ".spec.postgres",
        ),
        (
            "!has(self.spec.postgres.cloudNativePG) || !has(self.spec.tls.secrets) || \
             !has(self.spec.tls.secrets.postgres)",
            "spec.tls.secrets.postgres has no effect with spec.postgres.cloudNativePG, which has certificates of its own",
            ".spec.tls.secrets",
        ),
        (
            "!has(self.spec.restoreFrom) || !has(self.spec.postgres.cloudNativePG)",
            "spec.restoreFrom needs a managed PostgreSQL, and spec.postgres.cloudNativePG is given",
            ".spec.restoreFrom",
        ),
    ])
}

/// Adds the rules of PostgreSQL as a whole: which kinds of it exclude each other.
pub(super) fn postgres(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                "!has(self.external) || !has(self.cloudNativePG)",
                "postgres.external and postgres.cloudNativePG exclude each other: give one of them, or none for a managed one",
                ".cloudNativePG",
            ),
            (
                "!has(self.cloudNativePG) || !has(self.managed) || !has(self.managed.backup) && \
                 !has(self.managed.restore)",
                "postgres.managed.backup and postgres.managed.restore have no effect with postgres.cloudNativePG: use \
                 postgres.cloudNativePG.backup, and the restore of CloudNativePG",
                ".managed",
            ),
        ],
    );
}

/// Adds the rules of a Cluster.
pub(super) fn cluster(schema: &mut Schema) {
    let (rule, message, path) = parameters::of_cloud_native_pg();
    add(
        schema,
        &[
            (&rule, &message, path),
            (
                "!has(self.image) || !has(self.imageCatalogRef)",
                "postgres.cloudNativePG.image and postgres.cloudNativePG.imageCatalogRef exclude each other",
                ".image",
            ),
            (
                "!has(self.instances) || self.instances == 1 || !has(self.synchronous) || \
                 has(self.synchronous.enabled) && !self.synchronous.enabled || !has(self.synchronous.number) || \
                 self.synchronous.number < self.instances",
                "postgres.cloudNativePG.synchronous.number must be less than postgres.cloudNativePG.instances: the \
                 primary is none of the standbys",
                ".synchronous.number",
            ),
            (
                "!has(self.storage) || !has(oldSelf.storage) || !has(self.storage.size) || !has(oldSelf.storage.size) || \
                 !isQuantity(self.storage.size) || !isQuantity(oldSelf.storage.size) || \
                 quantity(self.storage.size).compareTo(quantity(oldSelf.storage.size)) >= 0",
                "postgres.cloudNativePG.storage.size cannot shrink",
                ".storage.size",
            ),
            (
                "has(self.walStorage) || !has(oldSelf.walStorage)",
                "postgres.cloudNativePG.walStorage cannot be removed: the write-ahead log is there",
                ".walStorage",
            ),
            (
                "!has(self.walStorage) || !has(oldSelf.walStorage) || !has(self.walStorage.size) || \
                 !has(oldSelf.walStorage.size) || !isQuantity(self.walStorage.size) || \
                 !isQuantity(oldSelf.walStorage.size) || \
                 quantity(self.walStorage.size).compareTo(quantity(oldSelf.walStorage.size)) >= 0",
                "postgres.cloudNativePG.walStorage.size cannot shrink",
                ".walStorage.size",
            ),
        ],
    );
}

/// Adds the rules of its backups.
pub(super) fn backup(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                "!has(self.schedule) || self.schedule.matches('^[^ ]+( +[^ ]+){4}$')",
                "backup.schedule must have five fields: minute, hour, day of the month, month and day of the week",
                ".schedule",
            ),
            (
                "(has(self.barmanObjectStore) ? 1 : 0) + (has(self.volumeSnapshot) ? 1 : 0) + \
                 (has(self.plugin) ? 1 : 0) == 1",
                "postgres.cloudNativePG.backup must have exactly one of barmanObjectStore, volumeSnapshot and plugin",
                ".schedule",
            ),
            (
                "!has(self.retentionPolicy) || has(self.barmanObjectStore)",
                "postgres.cloudNativePG.backup.retentionPolicy needs barmanObjectStore: a plugin has its own, and \
                 snapshots have none",
                ".retentionPolicy",
            ),
        ],
    );
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::crd::schema::server::{object, refusals, schema};

    fn of(cluster: Value) -> Value {
        object("shop", json!({"postgres": {"cloudNativePG": cluster}}))
    }

    fn refused(new: &Value, old: Option<&Value>, names: &str) {
        let refused = refusals(new, old);
        assert!(refused.iter().any(|message| message.contains(names)), "{new}: {refused:?} does not name {names}");
    }

    fn accepted(new: &Value, old: Option<&Value>) {
        assert_eq!(refusals(new, old), Vec::<String>::new(), "{new}");
    }

    #[test]
    fn an_empty_cluster_has_three_instances_and_a_synchronous_standby() {
        let object = of(json!({}));
        accepted(&object, None);
        let cluster = &object["spec"]["postgres"]["cloudNativePG"];
        assert_eq!((&cluster["instances"], &cluster["synchronous"]["number"]), (&json!(3), &json!(1)));
        assert_eq!(cluster["synchronous"]["dataDurability"], "required");
        assert_eq!(cluster["operator"]["podLabels"], json!({"app.kubernetes.io/name": "cloudnative-pg"}));
    }

    #[test]
    fn another_kind_of_postgres_beside_it_is_refused_by_name() {
        let external = json!({"secretRef": {"name": "db"}});
        let both = object("shop", json!({"postgres": {"cloudNativePG": {}, "external": external}}));
        refused(&both, None, "postgres.external");
        let backup = json!({"schedule": "0 3 * * *", "to": {"claim": "backups"}});
        for managed in [json!({"backup": backup}), json!({"restore": {"backup": "20260102-030405-678"}})] {
            let both = object("shop", json!({"postgres": {"cloudNativePG": {}, "managed": managed}}));
            refused(&both, None, "postgres.managed.backup");
        }
        let from = json!({"from": {"claim": "backups"}, "name": "shop"});
        let restored = object("shop", json!({"postgres": {"cloudNativePG": {}}, "restoreFrom": from}));
        refused(&restored, None, "spec.restoreFrom");
        let sealed = json!({"enabled": true, "secrets": {"postgres": "x"}});
        refused(
            &object("shop", json!({"postgres": {"cloudNativePG": {}}, "tls": sealed})),
            None,
            "tls.secrets.postgres",
        );
    }

    #[test]
    fn stored_events_are_not_left_behind_in_another_kind_of_postgres() {
        let (managed, cluster) = (object("shop", json!({})), of(json!({})));
        refused(&cluster, Some(&managed), "spec.postgres");
        refused(&managed, Some(&cluster), "spec.postgres");
    }

    #[test]
    fn a_cluster_that_cloud_native_pg_would_refuse_is_refused_by_name() {
        refused(&of(json!({"synchronous": {"number": 3}})), None, "synchronous.number");
        refused(&of(json!({"instances": 2, "synchronous": {"number": 2}})), None, "synchronous.number");
        for valid in [
            json!({"instances": 1}),
            json!({"instances": 1, "synchronous": {"number": 2}}),
            json!({"instances": 2, "synchronous": {"enabled": false, "number": 2}}),
            json!({"image": "postgres:17"}),
            json!({"imageCatalogRef": {"name": "postgresql", "major": 17}}),
        ] {
            accepted(&of(valid), None);
        }
        let both = json!({"image": "postgres:17", "imageCatalogRef": {"name": "postgresql", "major": 17}});
        refused(&of(both), None, "imageCatalogRef");
        refused(&of(json!({"storage": {"size": "0"}})), None, "storage.size");
    }

    #[test]
    fn volumes_of_a_cluster_grow_and_never_shrink() {
        let sized = |size: &str, wal: &str| of(json!({"storage": {"size": size}, "walStorage": {"size": wal}}));
        let old = sized("8Gi", "4Gi");
        accepted(&sized("9Gi", "5Gi"), Some(&old));
        refused(&sized("7Gi", "4Gi"), Some(&old), "cloudNativePG.storage.size");
        refused(&sized("8Gi", "3Gi"), Some(&old), "cloudNativePG.walStorage.size");
        refused(&of(json!({"storage": {"size": "8Gi"}})), Some(&old), "walStorage cannot be removed");
        accepted(&old, Some(&of(json!({"storage": {"size": "8Gi"}}))));
    }

    #[test]
    fn parameters_that_others_set_are_refused_by_name() {
        let with = |name: &str| of(json!({"parameters": {name: "x"}}));
        for name in [
            "fsync",
            "synchronous_commit",
            "synchronous_standby_names",
            "ssl_cert_file",
            "archive_command",
            "recovery_target_time",
            "shared_preload_libraries",
            "port",
            "Fsync",
            "a b",
        ] {
            refused(&with(name), None, "postgres.cloudNativePG.parameters");
        }
        for name in ["work_mem", "max_connections", "shared_buffers", "auto_explain.log_min_duration", "wal_keep_size"]
        {
            accepted(&with(name), None);
        }
    }

    #[test]
    fn a_backup_has_a_schedule_and_one_method() {
        let with = |backup: Value| of(json!({ "backup": backup }));
        let store = json!({"destinationPath": "s3://backups/", "s3Credentials": {"inheritFromIAMRole": true}});
        for backup in [
            json!({"schedule": "0 3 * * *", "barmanObjectStore": store, "retentionPolicy": "30d"}),
            json!({"schedule": "0 3 * * *", "volumeSnapshot": {}}),
            json!({"schedule": "0 3 * * *", "plugin": {"name": "x", "parameters": {"barmanObjectName": "y"}}}),
        ] {
            accepted(&with(backup), None);
        }
        for (backup, names) in [
            (json!({"schedule": "0 3 * * *"}), "exactly one"),
            (json!({"schedule": "0 3 * * *", "barmanObjectStore": store, "volumeSnapshot": {}}), "exactly one"),
            (json!({"schedule": "0 0 3 * * *", "volumeSnapshot": {}}), "backup.schedule"),
            (json!({"schedule": "0 3 * * *", "volumeSnapshot": {}, "retentionPolicy": "30d"}), "retentionPolicy"),
        ] {
            refused(&with(backup), None, names);
        }
    }

    /// The API server drops fields that a schema does not have, and accepts messages of a limited length.
    #[test]
    fn the_object_store_is_kept_as_it_is_and_messages_are_not_too_long() {
        let cluster = &schema()["properties"]["spec"]["properties"]["postgres"]["properties"]["cloudNativePG"];
        let store = &cluster["properties"]["backup"]["properties"]["barmanObjectStore"];
        assert_eq!(store["x-kubernetes-preserve-unknown-fields"], true, "{store}");
        let rules = cluster["x-kubernetes-validations"].as_array().unwrap();
        let longest = rules.iter().map(|rule| rule["message"].as_str().unwrap().len()).max();
        assert!(longest < Some(2048), "{longest:?}");
    }
}
