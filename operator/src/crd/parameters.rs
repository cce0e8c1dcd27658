//! Parameters of a managed server that its user sets. Those on which the promises and the start of the server depend are
//! the operator's, and refused by name.

use schemars::Schema;
use serde_json::json;

/// The parameters of Redis that nobody else may set, and all that begin with `tls-`.
const OF_REDIS: &[&str] = &[
    "aclfile",
    "aof-load-truncated",
    "appenddirname",
    "appendfilename",
    "appendfsync",
    "appendonly",
    "auto-aof-rewrite-min-size",
    "auto-aof-rewrite-percentage",
    "bind",
    "cluster-enabled",
    "daemonize",
    "dbfilename",
    "dir",
    "enable-debug-command",
    "enable-module-command",
    "include",
    "loadmodule",
    "logfile",
    "masterauth",
    "masteruser",
    "maxmemory",
    "maxmemory-policy",
    "no-appendfsync-on-rewrite",
    "pidfile",
    "port",
    "protected-mode",
    "rename-command",
    "replicaof",
    "requirepass",
    "save",
    "shutdown-on-sigint",
    "shutdown-on-sigterm",
    "shutdown-timeout",
    "slaveof",
    "supervised",
    "unixsocket",
    "unixsocketperm",
    "user",
];

/// The parameters of PostgreSQL that nobody else may set, and all that begin with `ssl`.
const OF_POSTGRES: &[&str] = &[
    "config_file",
    "data_directory",
    "external_pid_file",
    "fsync",
    "full_page_writes",
    "hba_file",
    "huge_pages",
    "ident_file",
    "ignore_checksum_failure",
    "include",
    "include_dir",
    "include_if_exists",
    "listen_addresses",
    "log_destination",
    "logging_collector",
    "max_connections",
    "password_encryption",
    "port",
    "synchronous_commit",
    "unix_socket_directories",
    "zero_damaged_pages",
];

/// The parameters that CloudNativePG sets itself and refuses, those of [`OF_POSTGRES`] on which promises depend, and all
/// that begin with one of [`PREFIXES_OF_CLOUD_NATIVE_PG`].
const OF_CLOUD_NATIVE_PG: &[&str] = &[
    "allow_alter_system",
    "allow_system_table_mods",
    "archive_cleanup_command",
    "archive_command",
    "archive_mode",
    "bonjour",
    "bonjour_name",
    "cluster_name",
    "config_file",
    "data_directory",
    "data_sync_retry",
    "event_source",
    "external_pid_file",
    "fsync",
    "full_page_writes",
    "hba_file",
    "hot_standby",
    "ident_file",
    "ignore_checksum_failure",
    "jit_provider",
    "listen_addresses",
    "log_destination",
    "log_directory",
    "log_file_mode",
    "log_filename",
    "log_rotation_age",
    "log_rotation_size",
    "log_truncate_on_rotation",
    "logging_collector",
    "password_encryption",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "restart_after_crash",
    "restore_command",
    "shared_preload_libraries",
    "stats_temp_directory",
    "synchronized_standby_slots",
    "synchronous_commit",
    "synchronous_standby_names",
    "temp_tablespaces",
    "wal_level",
    "wal_log_hints",
    "zero_damaged_pages",
];
/// The beginnings of the names of further parameters that CloudNativePG refuses.
const PREFIXES_OF_CLOUD_NATIVE_PG: &str =
    "ssl.*|include.*|recovery_target.*|unix_socket_.*|syslog_.*|pg_failover_slots.*";

/// A rule: an expression, the message when it is false, and the path of the field.
pub(super) type Rule = (String, String, &'static str);

/// Limits the values: each is a line of a configuration file.
pub(super) fn values(schema: &mut Schema) {
    let value = json!({"type": "string", "maxLength": 1024, "pattern": r"^[^\x00-\x1f\x7f]*$"});
    schema.insert("additionalProperties".to_owned(), value);
    schema.insert("maxProperties".to_owned(), json!(64));
}

/// Returns the rule for the names of the parameters of Redis.
pub(super) fn of_redis() -> Rule {
    rule("^[a-z][a-z0-9-]*$", "tls-.*", OF_REDIS, "redis.managed.parameters")
}

/// Returns the rule for the names of the parameters of PostgreSQL, which has no difference of upper and lower case.
pub(super) fn of_postgres() -> Rule {
    rule("^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)?$", "ssl.*", OF_POSTGRES, "postgres.managed.parameters")
}

/// Returns the rule for the names of the parameters of a PostgreSQL that CloudNativePG runs.
pub(super) fn of_cloud_native_pg() -> Rule {
    rule(
        "^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)?$",
        PREFIXES_OF_CLOUD_NATIVE_PG,
        OF_CLOUD_NATIVE_PG,
        "postgres.cloudNativePG.parameters",
    )
}

fn rule(names: &str, prefix: &str, owned: &[&str], field: &str) -> Rule {
    let owned = owned.join("|");
    (
        format!(
            "!has(self.parameters) || self.parameters.all(name, name.matches('{names}') && \
             !name.matches('^({prefix}|{owned})$'))"
        ),
        format!(
            "{field} must have names of parameters in lower case, and none of those that the operator sets: {}, {}",
            prefix.replace(".*", "*").replace('|', ", "),
            owned.replace('|', ", ")
        ),
        ".parameters",
    )
}
