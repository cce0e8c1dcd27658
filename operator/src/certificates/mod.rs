//! Certificates: what the operator issues for the arrows between programs and servers, and what it checks in those of
//! others. Nothing here sends requests or reads the clock.

pub mod inspect;
pub mod issue;
pub mod renew;

/// Key of a Secret with the certificate, followed by those of intermediate CAs, as cert-manager writes it.
pub const CERT: &str = "tls.crt";
/// Key of a Secret with the private key.
pub const KEY: &str = "tls.key";
/// Key of a Secret with the CAs that clients must trust.
pub const CA: &str = "ca.crt";

/// The three values of a Secret, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, followed by those of intermediate CAs.
    pub cert: String,
    /// Its private key.
    pub key: String,
    /// The CAs that clients must trust.
    pub ca: String,
}
