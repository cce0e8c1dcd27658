//! The public keys of an issuer (JWKS, RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// The largest document in bytes, and the maximum number of its keys. Issuers have a few.
pub(super) const MAX_BYTES: usize = 256 << 10;
const MAX_KEYS: usize = 256;

/// A key that verifies signatures of one algorithm.
struct PublicKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The keys that can be used. Keys without an id, of other algorithms, or that are not for signatures, are left out.
#[derive(Default)]
pub(crate) struct KeySet {
    keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Parses a document.
    ///
    /// # Errors
    /// What is wrong with it. A document without a key that can be used is wrong too: nobody could be authenticated.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, String> {
        if content.len() > MAX_BYTES {
            return Err(format!("has more than {MAX_BYTES} bytes"));
        }
        let document: Document =
            serde_json::from_slice(content).map_err(|error| format!("is no set of keys (JWKS): {error}"))?;
        if document.keys.len() > MAX_KEYS {
            return Err(format!("has more than {MAX_KEYS} keys"));
        }
        // Each on its own: a kind of key that we do not know must not make the others unusable.
        let keys: Vec<_> =
            document.keys.into_iter().filter_map(|key| usable(serde_json::from_value(key).ok()?)).collect();
        if keys.is_empty() {
            return Err("has no key for signatures with RS256, ES256 or EdDSA that has an id (kid)".to_owned());
        }
        Ok(Self { keys })
    }

    /// Returns the key with this id for this algorithm.
    pub(super) fn find(&self, kid: &str, algorithm: Algorithm) -> Option<&DecodingKey> {
        self.keys.iter().find(|key| key.kid == kid && key.algorithm == algorithm).map(|key| &key.key)
    }

    /// Returns the number of keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

fn usable(jwk: Jwk) -> Option<PublicKey> {
    let common = &jwk.common;
    let for_signatures = common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let may_verify = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    // A secret (`oct`) is never a key: whoever reads the set could sign with it.
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let for_this = common.key_algorithm.is_none_or(|of| of == name);
    let kid = common.key_id.clone()?;
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (for_signatures && may_verify && for_this).then_some(PublicKey { kid, algorithm, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_keys_for_signatures_that_have_an_id_are_used() {
        let ec = r#""kty":"EC","crv":"P-256","x":"AA","y":"AA""#;
        for (key, expected) in [
            (format!(r#"{{{ec},"kid":"a"}}"#), true),
            (format!(r#"{{{ec},"kid":"a","use":"sig","alg":"ES256","key_ops":["verify"]}}"#), true),
            (r#"{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"a","alg":"EdDSA"}"#.to_owned(), true),
            (r#"{"kty":"RSA","n":"AA","e":"AQAB","kid":"a"}"#.to_owned(), true),
            (format!(r#"{{{ec}}}"#), false),
            (format!(r#"{{{ec},"kid":"a","use":"enc"}}"#), false),
            (format!(r#"{{{ec},"kid":"a","alg":"ES384"}}"#), false),
            (format!(r#"{{{ec},"kid":"a","alg":"HS256"}}"#), false),
            (format!(r#"{{{ec},"kid":"a","key_ops":["encrypt"]}}"#), false),
            (r#"{"kty":"RSA","n":"AA","e":"AQAB","kid":"a","alg":"RS512"}"#.to_owned(), false),
            (r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA","kid":"a"}"#.to_owned(), false),
            (r#"{"kty":"oct","k":"AA","kid":"a","alg":"HS256"}"#.to_owned(), false),
            (r#"{"kty":"oct","k":"AA","kid":"a"}"#.to_owned(), false),
            (r#"{"kty":"AKP","kid":"a"}"#.to_owned(), false),
            (r#"{"kid":"a"}"#.to_owned(), false),
            ("1".to_owned(), false),
        ] {
            // Beside a key that can be used, one that cannot is no error.
            let other = r#"{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"other"}"#;
            let set = KeySet::parse(format!(r#"{{"keys":[{key},{other}]}}"#).as_bytes()).unwrap();
            assert_eq!(set.len(), 1 + usize::from(expected), "{key}");
            assert_eq!(KeySet::parse(format!(r#"{{"keys":[{key}]}}"#).as_bytes()).is_ok(), expected, "{key}");
            assert!(set.find("other", Algorithm::EdDSA).is_some() && set.find("other", Algorithm::ES256).is_none());
        }
        for (text, expected) in
            [("", "is no set"), ("[]", "is no set"), ("{}", "is no set"), (r#"{"keys":[]}"#, "has no key")]
        {
            assert!(KeySet::parse(text.as_bytes()).err().unwrap().starts_with(expected), "{text}");
        }
        assert!(KeySet::parse(&vec![b' '; MAX_BYTES + 1]).is_err());
    }
}
