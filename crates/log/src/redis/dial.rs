//! Opens connections to one server, or to whichever is the primary, with backoff after a failure.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::ConnectionInfo;
use redis::aio::MultiplexedConnection;
use sluice_service::encryption::Encryption;
use tokio::time::timeout;

use super::open::{CONNECT_TIMEOUT, open};
use super::role::check_primary;
use super::sentinel::Sentinels;
use super::tls::{self, RedisTls};
use crate::LogError;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Where the server is.
pub(super) enum Place {
    /// At one address, behind which there may be another server after a failover.
    Server(ConnectionInfo),
    /// Where the Sentinels say.
    Sentinels(Sentinels),
}

/// Opens connections. During the backoff after a failure it returns an error at once, so that callers do
/// not queue for a server that is unavailable.
pub(super) struct Dialer {
    place: Place,
    files: RedisTls,
    encryption: Encryption,
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Gate {
    failures: u32,
    closed: Option<(Instant, LogError)>,
}

impl Dialer {
    pub fn new(place: Place, files: &RedisTls, encryption: &Encryption) -> Self {
        Self { place, files: files.clone(), encryption: encryption.clone(), gate: Mutex::default() }
    }

    /// Opens a connection to a server that can be written to.
    pub async fn dial(&self, answer_timeout: Option<Duration>) -> Result<MultiplexedConnection, LogError> {
        if let Some((until, reason)) = &self.gate().closed
            && Instant::now() < *until
        {
            return Err(reason.clone());
        }
        let failure = match self.connect(answer_timeout).await {
            Ok(connection) => {
                *self.gate() = Gate::default();
                return Ok(connection);
            }
            Err(failure) => failure,
        };
        let mut gate = self.gate();
        let backoff = FIRST_BACKOFF.saturating_mul(1 << gate.failures.min(10)).min(MAX_BACKOFF);
        gate.failures += 1;
        gate.closed = Some((Instant::now() + backoff.mul_f64(rand::random_range(0.5..1.0)), failure.clone()));
        Err(failure)
    }

    async fn connect(&self, answer_timeout: Option<Duration>) -> Result<MultiplexedConnection, LogError> {
        match &self.place {
            Place::Server(info) => {
                let mut connection = open(info, &self.files, CONNECT_TIMEOUT, answer_timeout).await?;
                match timeout(CONNECT_TIMEOUT, check_primary(&mut connection)).await {
                    Ok(checked) => checked.map(|()| connection),
                    Err(_) => Err(LogError::Unavailable("Redis accepts connections, and does not answer".into())),
                }
            }
            Place::Sentinels(sentinels) => {
                let (info, connection) = sentinels.connect(&self.files, answer_timeout).await?;
                // The server may be on another host than the Sentinels.
                self.encryption.record(tls::transport(&info));
                Ok(connection)
            }
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
