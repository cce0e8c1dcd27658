//! JWTs of an issuer (RFC 7519): signed with RS256, ES256 or EdDSA by a key that the issuer publishes.

mod cache;
mod claims;
mod fetched;
mod key_set;
mod ring_provider;

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::Uri;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use sluice_event::Timestamp;
use sluice_service::client_tls::ClientTls;
use sluice_service::problem::Problem;

use self::cache::Cache;
pub(crate) use self::claims::ClaimNames;
use self::claims::Claims;
use self::fetched::Fetched;
pub(crate) use self::key_set::KeySet;
use crate::Subject;
use crate::problems::{invalid_token, no_keys};
use crate::reload::{Reloaded, Source};

/// How far the clocks of the issuer and of this machine may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 30;
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// Where the keys of the issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JwksPlace {
    /// Behind a URL.
    Url(Uri),
    /// In a file.
    File(PathBuf),
}

/// What is accepted.
#[derive(Debug, Clone)]
pub(crate) struct JwtSettings {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) claims: ClaimNames,
}

enum Keys {
    File(Arc<Reloaded<KeySet>>),
    Url(Arc<Fetched>),
}

/// Verifies JWTs.
pub(crate) struct Jwt {
    settings: JwtSettings,
    keys: Keys,
    cache: Cache,
}

/// Returns the source for messages about a file with keys.
pub(crate) fn source(file: PathBuf) -> Source {
    Source { setting: "--jwt-jwks", label: fetched::LABEL, file }
}

/// Returns whether a token is to be verified as a JWT: it has three parts with dots between them.
pub(crate) fn has_shape(token: &[u8]) -> bool {
    token.iter().filter(|&&byte| byte == b'.').count() == 2
}

impl Jwt {
    /// Starts to fetch the keys, or reads them. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the file, or what is trusted for the URL, cannot be read.
    pub(crate) fn start(settings: JwtSettings, place: JwksPlace, tls: ClientTls) -> Result<Self, String> {
        ring_provider::install();
        let keys = match place {
            JwksPlace::File(file) => Keys::File(Reloaded::follow(source(file), KeySet::parse)?),
            JwksPlace::Url(url) => Keys::Url(Fetched::start(url, tls)?),
        };
        Ok(Self { settings, keys, cache: Cache::new() })
    }

    /// Returns the subject of a token.
    ///
    /// # Errors
    /// The problem of a token that is not accepted, or that cannot be verified because there are no keys yet.
    pub(crate) async fn subject(&self, token: &str) -> Result<Arc<Subject>, Problem> {
        if let Some(subject) = self.verified(token.as_bytes()) {
            return Ok(subject);
        }
        let header = decode_header(token).map_err(|_| invalid_token("this is not a JWT"))?;
        let kid = check_header(&header)?;
        let keys = match &self.keys {
            Keys::File(file) => Some(file.current().clone()),
            Keys::Url(fetched) => fetched.with(kid, header.alg).await,
        };
        let Some(keys) = keys else { return Err(no_keys()) };
        let (subject, ends) = self.verify(token, &header, kid, &keys)?;
        let subject = Arc::new(subject);
        self.cache.insert(token.as_bytes(), &keys, subject.clone(), ends);
        Ok(subject)
    }

    /// Returns the subject of a token that the keys in force have verified.
    pub(crate) fn verified(&self, token: &[u8]) -> Option<Arc<Subject>> {
        let now = Timestamp::now();
        match &self.keys {
            Keys::File(file) => self.cache.find(token, &file.current(), now),
            Keys::Url(fetched) => self.cache.find(token, fetched.current().as_ref()?, now),
        }
    }

    /// Returns the subject of a token, and when the token ends.
    fn verify(&self, token: &str, header: &Header, kid: &str, keys: &KeySet) -> Result<(Subject, Timestamp), Problem> {
        let unknown = || invalid_token("the issuer has no key with the id (kid) and the algorithm of this token");
        let key = keys.find(kid, header.alg).ok_or_else(unknown)?;
        // The algorithm is that of the key: the header only says which key it is.
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = decode::<Claims>(token, key, &validation).map_err(|error| refusal(error.kind()))?.claims;
        let subject = self.settings.claims.subject(&claims);
        let subject = subject.map_err(|reason| invalid_token(&format!("a claim of this token is wrong: {reason}")))?;
        Ok((subject, ends(&claims)))
    }
}

/// Checks a header before its key is looked up. Returns the id of the key.
fn check_header(header: &Header) -> Result<&str, Problem> {
    if !ALGORITHMS.contains(&header.alg) {
        return Err(invalid_token("this token is not signed with RS256, ES256 or EdDSA"));
    }
    if header.crit.is_some() {
        return Err(invalid_token("the header of this token demands an extension (crit)"));
    }
    header.kid.as_deref().ok_or_else(|| invalid_token("the header of this token has no id of a key (kid)"))
}

/// Returns the time until which the token is accepted, which is a little after `exp`.
fn ends(claims: &Claims) -> Timestamp {
    let exp = claims.get("exp").and_then(serde_json::Value::as_f64).unwrap_or_default();
    let micros = (exp + LEEWAY_SECONDS as f64) * 1e6;
    // Beyond the last time that there is: a token that never ends is verified again for each request.
    Timestamp::from_micros(micros as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn refusal(kind: &ErrorKind) -> Problem {
    invalid_token(match kind {
        ErrorKind::ExpiredSignature => "this token has expired",
        ErrorKind::ImmatureSignature => "this token is not valid yet",
        ErrorKind::InvalidIssuer => "this token is of another issuer",
        ErrorKind::InvalidAudience => "this token is for another audience",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            "this token must have the claims exp, iss, aud and sub"
        }
        ErrorKind::InvalidSignature => "the signature of this token is wrong",
        _ => "this is not a JWT that can be verified",
    })
}
