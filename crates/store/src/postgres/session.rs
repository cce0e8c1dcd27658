//! The settings of a database session, and the time limits of its statements.

use std::time::Duration;

use super::settings::PostgresSettings;

/// The longest wait for a connection, whether it is opened or becomes free.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a query of the API may run.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The statements that begin a session, and its time limits on the client's side.
pub(super) struct Session {
    /// Executed once, when the connection is opened.
    pub sql: String,
    /// The longest that the client waits for a statement: longer than the server's own limit, so that
    /// normally the server reports the time-out first.
    pub deadline: Duration,
    /// The longest wait for a connection.
    pub lease_timeout: Duration,
}

impl Session {
    /// Returns the session of commits: everything that could delay a batch is bounded below the idle time
    /// after which another replica takes over the batch's entries. `prepare` are the PREPARE statements of
    /// a commit: with them prepared, a call can be sent together with other statements, where sqlx would
    /// need a round trip for each. They name tables, so the schema must have been migrated.
    pub fn commits(settings: &PostgresSettings, prepare: &[&str]) -> Self {
        let statement = settings.claim_after / 3;
        let mut sql = common(settings, statement, settings.claim_after / 4);
        // The statements of a batch never change and look rows up by key. A generic plan is made once, and
        // without sequential scans, which would be planned while the tables are still small. Starting parallel workers takes
        // longer than a look-up in many partitions, for which the server would plan them.
        sql.push_str(
            "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off; \
             SET max_parallel_workers_per_gather = 0; ",
        );
        sql.push_str(&prepare.join("; "));
        Self { sql, deadline: settings.claim_after / 2, lease_timeout: LEASE_TIMEOUT.min(settings.claim_after / 2) }
    }

    /// Returns the session of API queries and of maintenance.
    pub fn queries(settings: &PostgresSettings) -> Self {
        let mut sql = common(settings, QUERY_TIMEOUT, settings.claim_after.min(QUERY_TIMEOUT) / 4);
        // A plan for any values would name all partitions of events.
        // An index gives the order of events. A new partition has no statistics, and without them the server expects so few
        // rows of a topic that it would read and sort them all for a page. (The cost by which it avoids a sort that it needs
        // would make it compile each such query.)
        sql.push_str(
            "SET plan_cache_mode = force_custom_plan; SET enable_sort = off; SET jit = off; \
             SET max_parallel_workers_per_gather = 0; ",
        );
        Self { sql, deadline: QUERY_TIMEOUT + Duration::from_secs(2), lease_timeout: LEASE_TIMEOUT }
    }

    /// Returns the session of an audit, whose statements count rows.
    pub fn audit(settings: &PostgresSettings, timeout: Duration) -> Self {
        let sql = common(settings, timeout, LEASE_TIMEOUT);
        // The snapshot is idle while the log is read.
        let sql = format!("{sql} SET idle_in_transaction_session_timeout = {};", timeout.as_millis().max(1));
        Self { sql, deadline: timeout + Duration::from_secs(2), lease_timeout: LEASE_TIMEOUT }
    }

    /// Returns the session of migrations: their statements have no limit on the server, and wait for a lock
    /// for at most `lock_timeout`.
    pub fn migrations(settings: &PostgresSettings, lock_timeout: Duration, deadline: Duration) -> Self {
        // A process that is told to stop closes the connection in the middle of a statement, and the server must notice
        // it before the statement ends. Servers before version 14 do not have the setting.
        let sql = format!(
            "{} SET statement_timeout = 0; \
             SELECT set_config(name, '1s', false) FROM pg_settings WHERE name = 'client_connection_check_interval';",
            common(settings, deadline, lock_timeout)
        );
        Self { sql, deadline, lease_timeout: LEASE_TIMEOUT }
    }
}

fn common(settings: &PostgresSettings, statement: Duration, lock: Duration) -> String {
    let third = settings.claim_after / 3;
    let millis = |duration: Duration| duration.as_millis().max(1);
    format!(
        "SET search_path = {schema}; SET timezone = 'UTC'; \
         SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = {idle}; \
         SET tcp_user_timeout = {idle}; SET tcp_keepalives_idle = {keepalive}; \
         SET tcp_keepalives_interval = {keepalive}; SET tcp_keepalives_count = 3; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local'); ",
        schema = quoted(&settings.schema),
        statement = millis(statement),
        lock = millis(lock),
        idle = millis(third),
        keepalive = (third.as_secs() / 4).max(1),
    )
}

/// Returns an identifier quoted for use in SQL.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
