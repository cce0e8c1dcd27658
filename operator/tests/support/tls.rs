//! Certificates in Secrets, as somebody else issues them.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use sluice_operator::certificates::issue::{LEAF_LIFE, authority, leaf};

/// Returns a Secret with a certificate for these names that has just been issued.
pub fn certificate(namespace: &str, name: &str, names: &[&str]) -> Secret {
    ending_in(namespace, name, names, LEAF_LIFE)
}

/// The same for a certificate that ends after this time.
pub fn ending_in(namespace: &str, name: &str, names: &[&str], time: SignedDuration) -> Secret {
    let issued = Timestamp::now() + time - LEAF_LIFE;
    let ca = authority("certificates", "others", issued).unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let pair = leaf(&ca, name, &names, issued).unwrap();
    let values = [("tls.crt", pair.cert), ("tls.key", pair.key), ("ca.crt", ca.cert)];
    let values = values.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
    let mut secret = Secret { data: Some(values.into()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.namespace = Some(namespace.to_owned());
    secret.metadata.resource_version = Some("1".to_owned());
    secret
}

/// Changes a value in a Secret, or removes it.
pub fn with(mut secret: Secret, key: &str, value: Option<&[u8]>) -> Secret {
    let data = secret.data.as_mut().unwrap();
    match value {
        Some(value) => data.insert(key.to_owned(), ByteString(value.to_vec())),
        None => data.remove(key),
    };
    secret
}

/// Returns a value in a Secret.
pub fn value(secret: &Secret, key: &str) -> Vec<u8> {
    secret.data.as_ref().unwrap()[key].0.clone()
}
