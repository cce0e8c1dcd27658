//! TLS: the provider of its cryptography, the files that settings name, and what an error of a handshake means for
//! whoever operates the program that opens the connection.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, Error as TlsError, RootCertStore};

/// Installs the provider of cryptography for the whole process. `main` calls it before the first connection.
pub fn install_provider() {
    // An error means that one is installed already, and there is only one to install.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The settings of a client that errors of its handshakes name, as the user writes them.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// The server.
    pub server: &'static str,
    /// The URL.
    pub url: &'static str,
    /// The certificates of the CAs that are trusted.
    pub ca: &'static str,
    /// The certificate of the client and its key.
    pub certificate: &'static str,
}

impl Names {
    /// Returns in words why a TLS connection failed, and what helps; `None` when the error does not come from TLS.
    pub fn explain(&self, error: &(dyn Error + 'static)) -> Option<String> {
        let Self { server, url, certificate, .. } = self;
        Some(match tls_error(error)? {
            TlsError::InvalidCertificate(reason) => self.explain_certificate(reason),
            TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
                format!("{server} demands a certificate of the client: give it with {certificate}")
            }
            TlsError::AlertReceived(
                alert @ (AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied),
            ) => format!("{server} refuses the certificate of the client, {certificate} ({alert:?})"),
            // What a server sends in TLS 1.2 if the certificate is missing, and for other reasons.
            TlsError::AlertReceived(AlertDescription::HandshakeFailure) => format!(
                "{server} refuses the handshake: it may demand a certificate of the client, {certificate}, or none of \
                 the versions and ciphers that we have"
            ),
            TlsError::InvalidMessage(_) => {
                format!("{server} does not answer in TLS: it must offer TLS at the port in {url}")
            }
            TlsError::InconsistentKeys(_) => format!("the key does not belong to the certificate in {certificate}"),
            other => format!("no TLS connection to {server}: {other}"),
        })
    }

    fn explain_certificate(&self, reason: &CertificateError) -> String {
        let Self { server, url, ca, .. } = self;
        match reason {
            CertificateError::UnknownIssuer => {
                format!("the certificate of {server} is not from a trusted CA: give the CA with {ca}{}", no_roots())
            }
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "the certificate of {server} is not for {}, the host in {url}, but for {}",
                expected.to_str(),
                presented.iter().map(|name| name_within(name)).collect::<Vec<_>>().join(", ")
            ),
            CertificateError::NotValidForName => {
                format!("the certificate of {server} is not for the host in {url}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {server} has expired: {server} needs a new one")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {server} is not valid yet: compare the clocks of both hosts")
            }
            other => format!("the certificate of {server} is not accepted: {other} (CAs are set with {ca})"),
        }
    }
}

/// Returns the name in the form in which TLS reports it, such as `DnsName("db.example")`.
fn name_within(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

/// Returns a remark if the system has no certificates of CAs.
fn no_roots() -> &'static str {
    if system_has_roots() { "" } else { "; this system has no CAs of its own" }
}

/// Returns whether the system has certificates of CAs. An image may have none.
pub fn system_has_roots() -> bool {
    !rustls_native_certs::load_native_certs().certs.is_empty()
}

/// Finds the error of TLS among the causes of an error.
pub(crate) fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        next = match error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            Some(shared) => Some(&**shared),
            // An error of the system does not name what it wraps as its cause, but only the cause of that.
            None => match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            },
        };
    }
    None
}

/// Checks that a file holds certificates of CAs in PEM.
///
/// # Errors
/// The name of the setting and of the file, and what is wrong.
pub fn check_ca(setting: &str, file: &Path) -> Result<(), String> {
    roots_in((setting, file), &read(setting, file)?).map(|_| ())
}

/// Returns the CAs in the text of a file that a setting names.
///
/// # Errors
/// The name of the setting and of the file, and what is wrong.
pub(crate) fn roots_in((setting, file): (&str, &Path), text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in((setting, file), text)? {
        roots.add(certificate).map_err(|error| {
            format!("{setting}: {}: holds a certificate that cannot be used: {error}", file.display())
        })?;
    }
    Ok(roots)
}

/// Checks that two files hold the certificate of a client and its key, in PEM.
///
/// # Errors
/// The name of the setting and of the file, and what is wrong.
pub fn check_client((cert, cert_file): (&str, &Path), (key, key_file): (&str, &Path)) -> Result<(), String> {
    let chain = certificates(cert, cert_file)?;
    let parsed = key_in((key, key_file), &read(key, key_file)?)?;
    let provider = rustls::crypto::ring::default_provider();
    let matching = rustls::sign::CertifiedKey::from_der(chain, parsed, &provider);
    matching.map_err(|error| mismatch((cert, cert_file), (key, key_file), &error)).map(|_| ())
}

/// Returns what is said of a certificate and a key that do not work together.
pub(crate) fn mismatch((cert, cert_file): (&str, &Path), (key, key_file): (&str, &Path), error: &TlsError) -> String {
    format!("{key}: {} is not the key of {cert}, {}: {error}", key_file.display(), cert_file.display())
}

fn certificates(setting: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates_in((setting, file), &read(setting, file)?)
}

/// Returns the private key in the text of a file that a setting names.
///
/// # Errors
/// The name of the setting and of the file, and what is wrong.
pub(crate) fn key_in((setting, file): (&str, &Path), text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text)
        .map_err(|_| format!("{setting}: {} holds no private key in PEM", file.display()))
}

/// Returns the certificates in the text of a file that a setting names.
///
/// # Errors
/// The name of the setting and of the file, and what is wrong.
pub(crate) fn certificates_in(
    (setting, file): (&str, &Path),
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{setting}: {} holds no certificate in PEM", file.display())),
    }
}

/// Reads a file that a setting names.
///
/// # Errors
/// The name of the setting and of the file, and the reason.
pub fn read(setting: &str, file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{setting}: {} cannot be read: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = Names { server: "Redis", url: "--url", ca: "--ca", certificate: "--cert" };

    /// Wraps an error as both clients do: in an error of the system, which the Redis client shares.
    fn wrapped(error: TlsError) -> Arc<dyn Error + Send + Sync> {
        Arc::new(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn an_error_of_tls_is_found_among_the_causes_and_explained_with_the_option_that_helps() {
        for (error, expected) in [
            (TlsError::InvalidCertificate(CertificateError::UnknownIssuer), "give the CA with --ca"),
            (TlsError::InvalidCertificate(CertificateError::NotValidForName), "not for the host in --url"),
            (TlsError::InvalidCertificate(CertificateError::NotValidYet), "compare the clocks"),
            (TlsError::AlertReceived(AlertDescription::HandshakeFailure), "certificate of the client, --cert"),
            (TlsError::AlertReceived(AlertDescription::UnknownCA), "refuses the certificate of the client, --cert"),
            (TlsError::DecryptError, "no TLS connection to Redis"),
        ] {
            let explained = NAMES.explain(&wrapped(error.clone())).unwrap();
            assert!(explained.contains(expected), "{error:?}: {explained}");
        }
        assert_eq!(NAMES.explain(&io::Error::other("a broken pipe")), None);
    }

    #[test]
    fn a_name_is_shown_without_the_words_around_it() {
        for (presented, name) in
            [("DnsName(\"db.example\")", "db.example"), ("IpAddress(10.0.0.1)", "10.0.0.1"), ("plain", "plain")]
        {
            assert_eq!(name_within(presented), name);
        }
    }
}
