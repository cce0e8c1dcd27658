//! Ends sessions of this store whose client was frozen, or cut off, in the middle of COPY.
//!
//! Such a session holds its receipts and keys for ever. No time-out of the server ends it: while the server reads the
//! data of COPY it handles neither `statement_timeout` nor `idle_in_transaction_session_timeout`, and the kernel of a
//! frozen process, or a proxy in between, answers keepalives. Only `pg_terminate_backend` works during that read.

use std::time::Duration;

use super::connections::Lease;
use super::settings::PostgresSettings;
use crate::StoreError;

/// The sessions that are ended: of this role, database and schema, which have waited for the data of a COPY since
/// before the claim time. A client gives up a COPY after half of that ([`super::session::Session::commits`]), so none
/// of these can still be committed by its client.
const END: &str = "SELECT pid, application_name, extract(epoch FROM clock_timestamp() - query_start)::int8, \
            pg_terminate_backend(pid) \
     FROM pg_stat_activity \
     WHERE datname = current_database() AND usename = current_user AND starts_with(application_name, $1) \
       AND pid <> pg_backend_pid() \
       AND state = 'active' AND wait_event_type = 'Client' AND wait_event = 'ClientRead' \
       AND query ~ '^COPY event(s|_rows_[0-9]+) ' \
       AND query_start < clock_timestamp() - $2 * interval '1 microsecond'";

/// Ends these sessions, and logs each. Returns how many were ended.
pub(super) async fn end(lease: &mut Lease, settings: &PostgresSettings) -> Result<u64, StoreError> {
    let claim_after = micros(settings.claim_after);
    let end = sqlx::query_as(END).bind(settings.application_prefix()).bind(claim_after);
    let found: Vec<(i32, String, i64, bool)> = lease.fetch_all(end).await?;
    let mut ended = 0;
    for (pid, session, seconds, is_ended) in found {
        if is_ended {
            ended += 1;
            tracing::warn!(
                pid,
                session,
                seconds,
                "ended a session of the database that was stuck in COPY: it held \
                receipts that batches waited for. Its client is frozen or cut off"
            );
        }
    }
    Ok(ended)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
