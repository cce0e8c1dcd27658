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

fn rule(names: &str, prefix: &str, owned: &[&str], field: &str) -> Rule {
    let owned = owned.join("|");
    (
        format!(
            "!has(self.parameters) || self.parameters.all(name, name.matches('{names}') && \
             !name.matches('^({prefix}|{owned})$'))"
        ),
        format!(
            "{field} must have names of parameters in lower case, and none of those that the operator sets: {}, {}",
            prefix.replace(".*", "*"),
            owned.replace('|', ", ")
        ),
        ".parameters",
    )
}
