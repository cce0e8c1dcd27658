//! Recognises a pooler in front of the database that shares the sessions of the server among its clients.
//!
//! Each session has settings of its own (the schema, time-outs), prepared statements, and locks. A pooler that gives a
//! transaction whatever session is free would let it use those of others, so it is refused. One that gives a connection a
//! session for as long as it is open is as good as the server.

use sqlx::{Row as _, SqlSafeStr as _};

use super::connections::Lease;
use crate::StoreError;

/// How many times two connections are asked for their sessions. A pooler gives the session that became free last to the
/// next transaction, so both have the same one at once, unless others use it at the same time: then theirs change.
const ROUNDS: usize = 4;

/// The session of the server that answers. It is asked by the simple protocol, which needs no prepared statement.
const SESSION: &str = "SELECT pg_backend_pid() || ' ' || pg_postmaster_start_time()";

/// Asks two connections that are open at the same time.
///
/// # Errors
/// [`StoreError::Failed`] if they share a session, or one of them has changed its session.
pub(super) async fn check(one: &mut Lease, other: &mut Lease) -> Result<(), StoreError> {
    let (first, second) = (session_of(one).await?, session_of(other).await?);
    let mut is_shared = first == second;
    for _ in 0..ROUNDS {
        is_shared |= session_of(one).await? != first;
        is_shared |= session_of(other).await? != second;
    }
    if !is_shared {
        return Ok(());
    }
    Err(StoreError::Failed(
        "--database-url leads to a pooler that shares sessions of PostgreSQL among its clients: it must be in session \
         mode (pool_mode = session in PgBouncer), or not be used"
            .into(),
    ))
}

async fn session_of(lease: &mut Lease) -> Result<String, StoreError> {
    let rows = lease.run_for_rows(SESSION.into_sql_str()).await?;
    let session = rows.last().and_then(|row| row.try_get::<&str, _>(0).ok());
    session.map(str::to_owned).ok_or_else(|| StoreError::Failed("the session of the server cannot be read".into()))
}
