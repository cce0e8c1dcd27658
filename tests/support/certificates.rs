//! Certificates of our own: a CA, and what it issues to servers and clients, as files in PEM.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::dirs;

/// The name in certificates for the address at which the servers of the tests are reached.
pub const HOST: &str = "127.0.0.1";

/// What every system of a test process uses that is started over TLS: its servers have `server`, and its clients,
/// the tests among them, have `client`.
pub struct Ours {
    /// The CA that all of them trust.
    pub authority: Authority,
    /// The certificate of all servers.
    pub server: Identity,
    /// The certificate of all clients.
    pub client: Identity,
}

static ISSUED: AtomicU32 = AtomicU32::new(0);
static OURS: LazyLock<Ours> = LazyLock::new(|| {
    let authority = Authority::new();
    let (server, client) = (authority.issue(HOST), authority.issue("client.example"));
    Ours { authority, server, client }
});

/// Returns the certificates of the systems of this process.
pub fn ours() -> &'static Ours {
    &OURS
}

/// Returns the variables of `simulate` and `healthcheck` for a server of ours at this address; none without TLS.
pub fn client_env(base: &str) -> Vec<(&'static str, PathBuf)> {
    if !base.starts_with("https://") {
        return Vec::new();
    }
    let Ours { authority, client, .. } = ours();
    let files = [authority.ca().to_owned(), client.cert.clone(), client.key.clone()];
    ["SLUICE_CA", "SLUICE_CERT", "SLUICE_KEY"].into_iter().zip(files).collect()
}

/// Returns the settings of a client that trusts a CA; without one it trusts nobody.
pub fn client_config(ca: Option<&Path>, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("a CA");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(roots);
    let Some(Identity { cert, key }) = identity else { return builder.with_no_client_auth() };
    let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    builder.with_client_auth_cert(vec![cert], key).expect("a certificate and its key")
}

/// A CA. The file with its certificate is all that a client needs to trust it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    ca: PathBuf,
}

/// A certificate and its private key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The file with the certificate.
    pub cert: PathBuf,
    /// The file with the key.
    pub key: PathBuf,
}

impl Authority {
    /// Creates a CA.
    pub fn new() -> Self {
        let dir = dirs::fresh("certificates");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, dir.display().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, new_key()).expect("a certificate of a CA");
        let ca = dir.join("ca.crt");
        std::fs::write(&ca, issuer.pem()).expect("the certificate of the CA");
        Self { issuer, dir, ca }
    }

    /// Returns the file with its certificate.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Issues a certificate for a host, which a client can use as well.
    pub fn issue(&self, host: &str) -> Identity {
        self.sign(&format!("for-{host}"), host, |_| {})
    }

    /// Issues a certificate for [`HOST`] that ended years ago.
    pub fn issue_expired(&self) -> Identity {
        self.sign("expired", HOST, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// Issues a certificate for [`HOST`] that begins in years.
    pub fn issue_not_valid_yet(&self) -> Identity {
        self.sign("not-valid-yet", HOST, |params| {
            params.not_before = date_time_ymd(2090, 1, 1);
            params.not_after = date_time_ymd(2091, 1, 1);
        })
    }

    /// Issues a certificate for [`HOST`] that ends in this time.
    pub fn issue_ending_in(&self, time: Duration) -> Identity {
        self.sign(&format!("for-{}-seconds", time.as_secs()), HOST, |params| {
            params.not_after = (SystemTime::now() + time).into();
        })
    }

    fn sign(&self, name: &str, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name of a host");
        params.distinguished_name.push(DnType::CommonName, host);
        change(&mut params);
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        // A certificate of the same name may be in use.
        let number = ISSUED.fetch_add(1, Ordering::Relaxed);
        let file = |extension: &str| self.dir.join(format!("{name}-{number}.{extension}"));
        let identity = Identity { cert: file("crt"), key: file("key") };
        std::fs::write(&identity.cert, certificate.pem()).expect("a certificate");
        std::fs::write(&identity.key, key.serialize_pem()).expect("a key");
        identity
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}
