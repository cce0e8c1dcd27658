//! Opens one connection to one server.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, ConnectionInfo, ErrorKind, RedisError};
use sluice_service::encryption::Transport;
use tokio::time::timeout;

use super::error::Fault;
use super::tls::{self, RedisTls};
use crate::LogError;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a connection with the files of TLS as they are now. Without `answer_timeout` the caller bounds each answer.
///
/// # Errors
/// The reason, and what may help.
pub(super) async fn open(
    info: &ConnectionInfo,
    files: &RedisTls,
    deadline: Duration,
    answer_timeout: Option<Duration>,
) -> Result<MultiplexedConnection, LogError> {
    // Without TCP_NODELAY an entry waits until the server's kernel has acknowledged the one before it.
    let info = info.clone().set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = tls::client(&info, files)?;
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(deadline)).set_response_timeout(answer_timeout);
    match timeout(deadline, client.get_multiplexed_async_connection_with_config(&config)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(explain(error, &info)),
        Err(_) => Err(LogError::Unavailable(format!("connecting to Redis took too long{}", hint(&info)))),
    }
}

/// Converts an error of a new connection. It may be a refused password, for example: a retry alone does not help,
/// but the server may be corrected.
fn explain(error: RedisError, info: &ConnectionInfo) -> LogError {
    if error.kind() == ErrorKind::InvalidClientConfig {
        // Only the files can be wrong: the URL was checked at the start.
        return LogError::Unavailable(format!("the files of {} cannot be used: {error}", tls::NAMES.certificate));
    }
    let hint = if error.is_io_error() && !error.is_connection_refusal() { hint(info) } else { "" };
    match LogError::from(Fault::from(error)) {
        LogError::Unavailable(reason) if !reason.contains("--redis-") => {
            LogError::Unavailable(format!("{reason}{hint}"))
        }
        other => other,
    }
}

/// Returns what may be wrong when the server closes a connection, or does not answer, before the first command: a
/// server with TLS and one without do so when they are taken for the other.
fn hint(info: &ConnectionInfo) -> &'static str {
    match tls::transport(info) {
        Transport::Encrypted => " (does it offer TLS at the port in --redis-url?)",
        _ => " (if it demands TLS, --redis-url must begin with rediss://)",
    }
}
