//! Checks the settings of authentication and the Secrets that they name.

use crate::controller::build::names::Names;
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::plan::AuthPlan;
use crate::controller::server_url;
use crate::controller::tls::check;
use crate::crd::AuthSpec;

/// Returns the plan, if there is authentication.
///
/// # Errors
/// [`Error::SecretMissing`] or [`Error::SecretInvalid`] for a Secret that cannot be used, and [`Error::Invalid`].
pub fn validate(spec: Option<&AuthSpec>, live: &Live, names: &Names) -> Result<Option<AuthPlan>> {
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
    Ok(Some(AuthPlan {
        tokens,
        jwt,
        requests_per_second: spec.requests_per_second,
        events_per_second: spec.events_per_second,
        secret: names.tokens(),
    }))
}
