//! Whether a server is the primary. A replica refuses every write, and what can be read from it may be old.

use redis::Role;
use redis::aio::MultiplexedConnection;

use super::error::Fault;
use crate::LogError;

/// Checks that the server is the primary. A server that does not tell counts as one: it will refuse the first write if
/// it is not.
///
/// # Errors
/// When it is not, or does not answer.
pub(super) async fn check_primary(connection: &mut MultiplexedConnection) -> Result<(), LogError> {
    match redis::cmd("ROLE").query_async::<Role>(connection).await {
        Ok(Role::Primary { .. }) => Ok(()),
        Ok(Role::Replica { primary_ip, primary_port, .. }) => {
            Err(LogError::Unavailable(format!("the server is a replica of {primary_ip}:{primary_port}")))
        }
        Ok(_) => Err(LogError::Unavailable(
            "the server is a Sentinel: --redis-url must begin with redis+sentinel:// or rediss+sentinel://".into(),
        )),
        Err(error) => match LogError::from(Fault::from(error)) {
            LogError::Failed(refusal) => {
                tracing::debug!(refusal, "the server does not tell whether it is the primary");
                Ok(())
            }
            error => Err(error),
        },
    }
}
