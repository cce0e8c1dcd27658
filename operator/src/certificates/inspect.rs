//! Reads certificates, and checks that they can be used.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// The names of hosts, in lower case, and addresses.
    pub names: Vec<String>,
    /// Whether it is the certificate of a CA.
    pub is_ca: bool,
    /// Who it is, in DER.
    pub subject: Vec<u8>,
    /// Who has signed it, in DER.
    pub issuer: Vec<u8>,
}

impl Inspected {
    /// Whether it is for this name. A name with `*` must be in it as it is.
    pub fn is_for(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let covers = |own: &String| {
            let wildcard = own.strip_prefix("*.").filter(|_| !name.starts_with('*'));
            let below = wildcard.and_then(|parent| name.split_once('.').map(|(_, rest)| rest == parent));
            *own == name || below == Some(true)
        };
        self.names.iter().any(covers)
    }

    /// Returns when it is to be renewed: after two thirds of its life.
    pub fn renewal(&self) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        self.not_before + SignedDuration::from_secs(life.as_secs() / 3 * 2)
    }
}

/// Returns the certificates in a text. There is at least one.
///
/// # Errors
/// In words, as in "the key tls.crt of Secret x …".
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("is no certificate in PEM: {error}"))?;
    if all.is_empty() { Err("has no certificate in PEM".to_owned()) } else { Ok(all) }
}

/// Reads a certificate.
///
/// # Errors
/// In words.
pub fn inspect(certificate: &CertificateDer<'_>) -> Result<Inspected, String> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|error| format!("is no certificate: {error}"))?;
    let time =
        |seconds: i64| Timestamp::from_second(seconds).map_err(|error| format!("has an impossible date: {error}"));
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    Ok(Inspected {
        not_before: time(parsed.validity().not_before.timestamp())?,
        not_after: time(parsed.validity().not_after.timestamp())?,
        names: names.collect(),
        is_ca: parsed.is_ca(),
        subject: parsed.subject().as_raw().to_vec(),
        issuer: parsed.issuer().as_raw().to_vec(),
    })
}

/// Reads the first certificate in a text.
///
/// # Errors
/// In words.
pub fn first(pem: &[u8]) -> Result<Inspected, String> {
    certificates(pem)?.first().ok_or_else(String::new).and_then(inspect)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Reads a private key.
///
/// # Errors
/// In words, without anything of the key.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "is no private key in PEM without a password".to_owned())
}

/// Checks that a private key is that of a certificate.
///
/// # Errors
/// In words, as in "the key tls.key of Secret x …".
pub fn is_pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), String> {
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err("is not the private key of the certificate in tls.crt".to_owned())
        }
        Err(error) => Err(format!("cannot be used: {error}")),
    }
}

/// Checks that clients which trust `ca` accept a server with this chain and name.
///
/// # Errors
/// In words.
pub fn is_trusted(chain: &[CertificateDer<'_>], ca: &[u8], name: &str, now: Timestamp) -> Result<(), String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)?), provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let (leaf, intermediates) = chain.split_first().ok_or("has no certificate")?;
    let server = ServerName::try_from(name).map_err(|error| format!("{name}: {error}"))?;
    let verified = verifier.verify_server_cert(leaf, intermediates, &server, &[], unix(now));
    verified.map(|_| ()).map_err(|error| error.to_string())
}

/// Checks that servers which trust `ca` accept a client with this chain.
///
/// # Errors
/// In words.
pub fn is_trusted_client(chain: &[CertificateDer<'_>], ca: &[u8], now: Timestamp) -> Result<(), String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let (leaf, intermediates) = chain.split_first().ok_or("has no certificate")?;
    let verified = verifier.verify_client_cert(leaf, intermediates, unix(now));
    verified.map(|_| ()).map_err(|error| error.to_string())
}

fn roots(ca: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for ca in certificates(ca)? {
        roots.add(ca).map_err(|error| format!("has a CA that cannot be used: {error}"))?;
    }
    Ok(roots)
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.as_second().max(0).unsigned_abs()))
}
