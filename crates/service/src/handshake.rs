//! The handshake of a client with a server that speaks TLS.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, Error as TlsError};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::server_tls::{CLIENT_CA, ServerTls};
use crate::tls::tls_error;
use crate::transport::{Socket, Transport};

/// The first byte of every TLS connection: the type of a record that is part of a handshake.
const HANDSHAKE_RECORD: u8 = 22;
/// The bytes that are encrypted and not sent yet: one record. The default is 64 KiB for each client that reads slowly.
const MAX_UNSENT: usize = 16 << 10;

/// Why no TLS connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The client does not speak TLS; `true` if it sends what may be HTTP.
    Plain(bool),
    Late,
    NoCertificate,
    Certificate,
    RefusedByClient,
    Incompatible,
    Broken,
}

impl Failure {
    /// Returns the value of the label `reason`.
    fn label(self) -> &'static str {
        match self {
            Self::Plain(_) => "not_tls",
            Self::Late => "late",
            Self::NoCertificate => "no_client_certificate",
            Self::Certificate => "client_certificate",
            Self::RefusedByClient => "refused_by_client",
            Self::Incompatible => "incompatible",
            Self::Broken => "broken",
        }
    }

    fn text(self) -> String {
        match self {
            Self::Plain(_) => "the client does not speak TLS: it must use https://".to_owned(),
            Self::Late => "the client did not finish the handshake in time".to_owned(),
            Self::NoCertificate => format!("the client sent no certificate, which {CLIENT_CA} demands"),
            Self::Certificate => format!("the certificate of the client is not accepted by {CLIENT_CA}"),
            Self::RefusedByClient => "the client does not accept our certificate".to_owned(),
            Self::Incompatible => "the client has no version, cipher or protocol of ours".to_owned(),
            Self::Broken => "the client ended the handshake, or did not follow the protocol".to_owned(),
        }
    }

    fn of(error: &io::Error) -> Self {
        match tls_error(error) {
            Some(TlsError::NoCertificatesPresented) => Self::NoCertificate,
            Some(TlsError::InvalidCertificate(_)) => Self::Certificate,
            Some(TlsError::PeerIncompatible(_) | TlsError::NoApplicationProtocol) => Self::Incompatible,
            Some(TlsError::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate,
            )) => Self::RefusedByClient,
            _ => Self::Broken,
        }
    }
}

/// Makes a TLS connection with a client whose first byte has arrived and is not read yet.
///
/// # Errors
/// The reason, which is counted and logged, and the socket if the client can still be told.
pub(crate) async fn accept(
    socket: Socket,
    first: u8,
    tls: &ServerTls,
    deadline: Duration,
) -> Result<Transport, (Failure, Option<Socket>)> {
    let peer = socket.tcp().peer_addr();
    let (failure, cause, socket) = if first == HANDSHAKE_RECORD {
        let accepting = TlsAcceptor::from(tls.config())
            .accept_with(socket, |session| session.set_buffer_limit(Some(MAX_UNSENT)))
            .into_fallible();
        match timeout(deadline, accepting).await {
            Ok(Ok(mut stream)) => {
                let (socket, session) = stream.get_mut();
                let received = session.process_new_packets().map_or(0, |state| state.plaintext_bytes_to_read());
                socket.begin_head(received);
                return Ok(Transport::Tls(Box::new(stream)));
            }
            Ok(Err((error, socket))) => (Failure::of(&error), error.to_string(), Some(socket)),
            Err(_) => (Failure::Late, String::new(), None),
        }
    } else {
        (Failure::Plain(first.is_ascii_uppercase()), String::new(), Some(socket))
    };
    metrics::counter!(crate::metrics::TLS_HANDSHAKE_ERRORS.name, "reason" => failure.label()).increment(1);
    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
    tracing::debug!(peer, cause, "no TLS connection: {}", failure.text());
    Err((failure, socket))
}

/// Waits until a client has sent something over its TLS connection, without buffers for it. Returns false when it
/// closes the connection or sends nothing in time.
pub(crate) async fn has_sent(transport: &mut Transport, deadline: Duration) -> bool {
    if let Transport::Tls(stream) = transport {
        // It may have come together with the end of the handshake.
        let (_, session) = stream.get_mut();
        if !session.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() == 0) {
            return true;
        }
    }
    matches!(timeout(deadline, transport.tcp().peek(&mut [0])).await, Ok(Ok(1)))
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;

    use super::*;

    #[test]
    fn an_error_of_a_handshake_is_counted_by_what_the_client_did() {
        let refused = TlsError::AlertReceived(AlertDescription::UnknownCA);
        for (error, failure) in [
            (TlsError::NoCertificatesPresented, Failure::NoCertificate),
            (TlsError::InvalidCertificate(CertificateError::UnknownIssuer), Failure::Certificate),
            (TlsError::NoApplicationProtocol, Failure::Incompatible),
            (refused, Failure::RefusedByClient),
            (TlsError::DecryptError, Failure::Broken),
        ] {
            assert_eq!(Failure::of(&io::Error::new(io::ErrorKind::InvalidData, error)), failure);
        }
        assert_eq!(Failure::of(&io::ErrorKind::UnexpectedEof.into()), Failure::Broken);
    }
}
