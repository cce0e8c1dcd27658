//! What the PostgreSQL server promises about transactions that it has confirmed.

use sluice_service::durability::Check;
use sqlx::Row;
use sqlx::postgres::PgRow;

/// A transaction is on disk before it is confirmed.
const SYNCHRONOUS_COMMIT: &str = "postgres.synchronous_commit";
/// What the server writes is on disk, and not only handed to the system.
const FSYNC: &str = "postgres.fsync";
/// A page that is torn in two by a power cut is repaired.
const FULL_PAGE_WRITES: &str = "postgres.full_page_writes";

/// The names of all settings that are checked.
pub const DURABILITY_SETTINGS: [&str; 3] = [SYNCHRONOUS_COMMIT, FSYNC, FULL_PAGE_WRITES];

/// Returns one row with the settings as this session has them: a session itself turns `synchronous_commit` on. A server
/// that does not know a setting returns NULL. The last column is whether the server sees this connection encrypted.
pub(super) const SELECT: &str = "SELECT current_setting('synchronous_commit', true) AS synchronous_commit, \
     current_setting('fsync', true) AS fsync, current_setting('full_page_writes', true) AS full_page_writes, \
     (SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()) AS is_encrypted";

/// Reads the row of [`SELECT`].
pub(super) fn checks(row: &PgRow) -> Vec<Check> {
    let value = |name: &str| row.try_get::<Option<String>, _>(name).ok().flatten();
    compared([value("synchronous_commit"), value("fsync"), value("full_page_writes")])
}

/// Compares the values of [`DURABILITY_SETTINGS`].
fn compared([synchronous_commit, fsync, full_page_writes]: [Option<String>; 3]) -> Vec<Check> {
    let on = |value: &str| value == "on";
    vec![
        // All other values wait for the disk of the primary at least.
        Check::new(SYNCHRONOUS_COMMIT, "on", synchronous_commit.as_deref(), |value| value != "off"),
        Check::new(FSYNC, "on", fsync.as_deref(), on),
        Check::new(FULL_PAGE_WRITES, "on", full_page_writes.as_deref(), on),
    ]
}

/// Reads from the row of [`SELECT`] whether the server sees the connection encrypted; `None` if it does not tell it.
pub(super) fn is_encrypted(row: &PgRow) -> Option<bool> {
    row.try_get::<Option<bool>, _>("is_encrypted").ok().flatten()
}

#[cfg(test)]
mod tests {
    use sluice_service::durability::Found;

    use super::*;

    fn found(values: [Option<&str>; 3]) -> Vec<Found> {
        compared(values.map(|value| value.map(str::to_owned))).into_iter().map(|check| check.found).collect()
    }

    #[test]
    fn each_setting_is_compared_with_what_it_must_be() {
        let less = || Found::Less("off".to_owned());
        for waits in ["on", "local", "remote_write", "remote_apply"] {
            assert_eq!(found([Some(waits), Some("on"), Some("on")]), [Found::Enough, Found::Enough, Found::Enough]);
        }
        assert_eq!(found([Some("off"), Some("on"), Some("on")]), [less(), Found::Enough, Found::Enough]);
        assert_eq!(found([Some("on"), Some("off"), Some("on")]), [Found::Enough, less(), Found::Enough]);
        assert_eq!(found([Some("on"), Some("on"), Some("off")]), [Found::Enough, Found::Enough, less()]);
        assert_eq!(found([None, None, None]), [Found::Unknown, Found::Unknown, Found::Unknown]);
    }
}
