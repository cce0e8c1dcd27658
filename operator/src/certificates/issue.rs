//! Issues certificates: those of a CA, and those that it signs.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use time::OffsetDateTime;

/// How long a certificate of a program or server is valid. It is renewed after two thirds of it.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long a CA is valid. It is renewed after two thirds of it.
pub const CA_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long before its issue a certificate begins, because clocks differ.
pub const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// A certificate and its private key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

/// Issues the certificate of a CA for a resource. Each has a name of its own, so that a client that trusts two knows
/// which one has signed.
///
/// # Errors
/// When a key cannot be generated.
pub fn authority(namespace: &str, name: &str, now: Timestamp) -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.distinguished_name.push(DnType::OrganizationalUnitName, namespace);
    params.distinguished_name.push(DnType::CommonName, format!("Sluice CA {:016x}", rand::random::<u64>()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(now, CA_LIFE);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(Pair { cert: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// Issues a certificate for these names, of hosts or addresses. Servers and clients can use it.
///
/// # Errors
/// When a name is none, or the CA cannot be read.
pub fn leaf(ca: &Pair, subject: &str, names: &[String], now: Timestamp) -> Result<Pair, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&ca.cert, KeyPair::from_pem(&ca.key)?)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, subject);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(now, LEAF_LIFE);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(Pair { cert: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

fn validity(now: Timestamp, life: SignedDuration) -> (OffsetDateTime, OffsetDateTime) {
    let at =
        |time: Timestamp| OffsetDateTime::from_unix_timestamp(time.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    (at(now - BACKDATED), at(now + life))
}
