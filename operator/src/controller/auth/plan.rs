//! The validated settings of authentication.

use crate::contract::TOKENS_FILE;
use crate::controller::build::names::Names;
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::server_url;
use crate::controller::tls::check;
use crate::crd::{AuthSpec, JwtSpec};

/// Who may use the programs.
#[derive(Debug, Clone)]
pub struct AuthPlan {
    /// The tokens of the user, as YAML.
    pub tokens: Vec<u8>,
    /// The JWTs that are accepted, with the port of their issuer.
    pub jwt: Option<(JwtSpec, i32)>,
    /// Requests that a client may send in a second.
    pub requests_per_second: Option<i32>,
    /// Events that a client may publish in a second.
    pub events_per_second: Option<i32>,
    /// Name of the Secret with the file of tokens.
    pub secret: String,
}

impl AuthPlan {
    /// Returns the plan, if there is authentication.
    ///
    /// # Errors
    /// [`Error::SecretMissing`] or [`Error::SecretInvalid`] for a Secret that cannot be used, and [`Error::Invalid`].
    pub fn new(spec: Option<&AuthSpec>, live: &Live, names: &Names) -> Result<Option<Self>> {
        let Some(spec) = spec else { return Ok(None) };
        let tokens = match &spec.tokens {
            Some(secret) => {
                let (name, key) = (secret.name.clone(), secret.key.clone());
                let data = live.secrets.get(&name).and_then(|secret| secret.data.as_ref()?.get(&key));
                let Some(data) = data else {
                    return Err(Error::SecretMissing { field: "spec.auth.tokens".to_owned(), name, key });
                };
                if let Err(message) = sluice_auth::check_tokens(&data.0) {
                    return Err(Error::SecretInvalid { name, key, message });
                }
                data.0.clone()
            }
            None => b"[]".to_vec(),
        };
        let jwt = match &spec.jwt {
            Some(jwt) => {
                check::external(live, "spec.auth.jwt", Some(&jwt.ca_secret), None)?;
                let ports = server_url::ports(jwt.jwks_url.as_bytes(), &["https"], 443, None).unwrap_or_default();
                let Some(port) = ports.first() else {
                    return Err(Error::invalid("spec.auth.jwt.jwksUrl", "must be a URL with https"));
                };
                Some((jwt.clone(), *port))
            }
            None => None,
        };
        Ok(Some(Self {
            tokens,
            jwt,
            requests_per_second: spec.requests_per_second,
            events_per_second: spec.events_per_second,
            secret: names.tokens(),
        }))
    }

    /// Returns the key of the file in its Secret.
    pub fn key() -> &'static str {
        TOKENS_FILE
    }
}
