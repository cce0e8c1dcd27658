//! Certificates of our own: a CA, and what it issues to servers and clients, as files in PEM.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use crate::dirs;

/// The name in certificates for the address at which the servers of the tests are reached.
pub const HOST: &str = "127.0.0.1";

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

    fn sign(&self, name: &str, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name of a host");
        params.distinguished_name.push(DnType::CommonName, host);
        change(&mut params);
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        let file = |extension: &str| self.dir.join(format!("{name}.{extension}"));
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
