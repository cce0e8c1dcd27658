//! Checks the URLs of external servers for what TLS needs.

use k8s_openapi::api::core::v1::Secret;

use super::error::{Error, Result};
use super::fetch::Live;
use crate::crd::ExternalSpec;

/// Checks the URL of an external Redis. `required` is set if the resource may open no connection without TLS.
///
/// # Errors
/// [`Error::SecretInvalid`].
pub fn redis(external: &ExternalSpec, live: &Live, required: bool) -> Result<()> {
    let Some(url) = url(external, live) else { return Ok(()) };
    let why = reason("spec.redis.external", external, required);
    match why.filter(|_| !url.starts_with("rediss")) {
        Some(why) => refuse(
            external,
            format!("must begin with rediss:// (rediss+sentinel://, rediss+cluster://), because {why}"),
        ),
        None => Ok(()),
    }
}

/// Checks the URL of an external PostgreSQL. Without one of these modes, the driver also connects without TLS, or with a
/// server of any certificate.
///
/// # Errors
/// [`Error::SecretInvalid`].
pub fn postgres(external: &ExternalSpec, live: &Live, required: bool) -> Result<()> {
    let Some(url) = url(external, live) else { return Ok(()) };
    let query = url.split_once('?').map_or("", |(_, query)| query);
    // Of several the last one counts.
    let mut modes = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| *name == "sslmode" || *name == "ssl-mode");
    let mode = modes.next_back().map(|(_, mode)| mode.to_ascii_lowercase().replace('_', "-"));
    let mode = mode.as_deref().unwrap_or("prefer");
    let why = reason("spec.postgres.external", external, required);
    match why.filter(|_| !["require", "verify-ca", "verify-full"].contains(&mode)) {
        Some(why) => refuse(external, format!("must have the parameter sslmode=verify-full, because {why}")),
        None => Ok(()),
    }
}

/// Returns why a connection must have TLS, if it must.
fn reason(field: &str, external: &ExternalSpec, required: bool) -> Option<String> {
    let given = [("caSecret", external.ca_secret.is_some()), ("certSecret", external.cert_secret.is_some())];
    let given = given.iter().find(|(_, given)| *given).map(|(name, _)| format!("{field}.{name} is given"));
    given.or_else(|| required.then(|| "spec.tls.enabled is true".to_owned()))
}

fn url<'a>(external: &ExternalSpec, live: &'a Live) -> Option<&'a str> {
    let secret: &Secret = live.secrets.get(&external.secret_ref.name)?;
    std::str::from_utf8(&secret.data.as_ref()?.get(&external.secret_ref.key)?.0).ok()
}

fn refuse(external: &ExternalSpec, message: String) -> Result<()> {
    let (name, key) = (external.secret_ref.name.clone(), external.secret_ref.key.clone());
    Err(Error::SecretInvalid { name, key, message })
}
