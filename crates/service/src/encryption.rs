//! Whether what is sent to Redis, PostgreSQL and aggregators, passwords and tokens too, can be read on the network.
//!
//! A connection without TLS to a server on the same host is no risk. One to another host is logged as a warning once
//! per change, is shown as a metric and in the answer of `/readyz`. `--require-tls` does not let it be opened at all:
//! each client of a server sees to that, because a program that is only not ready has sent its password already.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How a connection to a server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By TLS.
    Encrypted,
    /// Not encrypted, but it does not leave this host.
    Local,
    /// Not at all.
    Plain,
}

impl Transport {
    /// Returns the transport of a connection to a server that is, or is not, on this host.
    pub fn new(is_encrypted: bool, is_local: bool) -> Self {
        match (is_encrypted, is_local) {
            (true, _) => Self::Encrypted,
            (false, true) => Self::Local,
            (false, false) => Self::Plain,
        }
    }
}

/// The transport of the connections to one server, as it was last found. Clones share what is recorded.
#[derive(Debug, Clone)]
pub struct Encryption {
    server: &'static str,
    last: Arc<Mutex<Option<Transport>>>,
}

impl Encryption {
    /// Returns the encryption of connections to a server with this name, of which none is open yet.
    pub fn of(server: &'static str) -> Self {
        Self { server, last: Arc::default() }
    }

    /// Records a connection that was opened, and logs a warning if it is the first one that can be read.
    pub fn record(&self, transport: Transport) {
        let plain = if transport == Transport::Plain { 1.0 } else { 0.0 };
        let server = self.server.to_lowercase();
        metrics::gauge!(crate::metrics::UNENCRYPTED_CONNECTION.name, "server" => server).set(plain);
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(transport);
        if transport == Transport::Plain && before != Some(Transport::Plain) {
            tracing::warn!(
                "{}: whoever can read the network sees the events, and the password or the tokens",
                self.sentence()
            );
        }
    }

    /// Returns a line for `/readyz` if the last connection can be read.
    pub(crate) fn note(&self) -> Option<String> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last == Some(Transport::Plain)).then(|| self.sentence())
    }

    fn sentence(&self) -> String {
        format!("the connection to {} is not encrypted and leaves this host", self.server)
    }
}

/// Returns whether a host of a URL is certainly this one: an address or a name of the loopback interface. No name is
/// looked up, because the answer can change between this and the connection.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_interface_is_this_host() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["redis", "10.0.0.1", "::2", "[fe80::1]", "localhost.example", "127.0.0.1.example", "", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_connection_that_can_be_read_is_told_until_it_is_encrypted() {
        let encryption = Encryption::of("Redis");
        assert_eq!(encryption.note(), None, "there is no connection yet");
        encryption.record(Transport::new(false, true));
        assert_eq!(encryption.note(), None, "it does not leave the host");
        encryption.record(Transport::new(false, false));
        assert_eq!(encryption.note().unwrap(), "the connection to Redis is not encrypted and leaves this host");
        encryption.clone().record(Transport::new(true, false));
        assert_eq!(encryption.note(), None);
    }
}
