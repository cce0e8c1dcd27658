//! Checks the certificates and CAs in Secrets of others.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::certificates::{CA, CERT, KEY, inspect};
use crate::controller::build::names::Component;
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::plan::Plan;
use crate::crd::{CaSecret, CertSecret};

/// A certificate in a Secret of others.
#[derive(Debug)]
pub struct Given {
    /// The component that uses it.
    pub component: Component,
    /// Name of the Secret.
    pub secret: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Checks all certificates of others that a resource uses for its components.
///
/// # Errors
/// [`Error::SecretMissing`], [`Error::SecretInvalid`] or [`Error::CertificateExpired`] for the first that cannot be used.
pub fn given(plan: &Plan, live: &Live, now: Timestamp) -> Result<Vec<Given>> {
    let Some(tls) = &plan.tls else { return Ok(Vec::new()) };
    let check = |(component, name): (Component, &str)| {
        let field = format!("spec.tls.secrets.{}", component.as_str());
        let inspected = pair(live, &field, name)?;
        let refuse = |key: &str, message: String| Err(invalid(name, key, message));
        let needed = tls.needed(&plan.names, component);
        if let Some(missing) = needed.iter().find(|name| !inspected.is_for(name)) {
            let has = if inspected.names.is_empty() { "none".to_owned() } else { inspected.names.join(", ") };
            return refuse(CERT, format!("has no certificate for {missing}, but for {has}"));
        }
        if now >= inspected.not_after {
            return Err(Error::CertificateExpired {
                name: name.to_owned(),
                key: CERT.to_owned(),
                end: inspected.not_after,
            });
        }
        if component != Component::Publisher {
            let ca = value(live, &field, name, CA)?;
            let chain =
                inspect::certificates(value(live, &field, name, CERT)?).map_err(|it| invalid(name, CERT, it))?;
            if component == Component::Client
                && let Err(error) = inspect::is_trusted_client(&chain, ca, now)
            {
                return refuse(CA, format!("does not make aggregators accept the certificate in {CERT}: {error}"));
            }
            for host in &needed {
                // Whoever trusts this CA connects by this name.
                if let Err(error) = inspect::is_trusted(&chain, ca, host, now) {
                    return refuse(CA, format!("does not make clients trust the certificate in {CERT}: {error}"));
                }
            }
        }
        Ok(Given { component, secret: name.to_owned(), not_after: inspected.not_after })
    };
    tls.given().map(check).collect()
}

/// Checks a Secret with a certificate and its key, and returns what the certificate says.
///
/// # Errors
/// [`Error::SecretMissing`] or [`Error::SecretInvalid`].
fn pair(live: &Live, field: &str, name: &str) -> Result<inspect::Inspected> {
    let chain = inspect::certificates(value(live, field, name, CERT)?).map_err(|it| invalid(name, CERT, it))?;
    let leaf = chain.first().map(inspect::inspect).transpose().map_err(|it| invalid(name, CERT, it))?;
    let key = inspect::private_key(value(live, field, name, KEY)?).map_err(|it| invalid(name, KEY, it))?;
    inspect::is_pair(chain, key).map_err(|it| invalid(name, KEY, it))?;
    leaf.ok_or_else(|| invalid(name, CERT, "has no certificate".to_owned()))
}

/// Checks the Secrets for a connection to an external server.
///
/// # Errors
/// [`Error::SecretMissing`] or [`Error::SecretInvalid`].
pub fn external(live: &Live, field: &str, ca: Option<&CaSecret>, cert: Option<&CertSecret>) -> Result<()> {
    if let Some(CaSecret { name, key }) = ca {
        let pem = value(live, &format!("{field}.caSecret"), name, key)?;
        inspect::certificates(pem).map_err(|it| invalid(name, key, it))?;
    }
    if let Some(CertSecret { name }) = cert {
        pair(live, &format!("{field}.certSecret"), name)?;
    }
    Ok(())
}

fn value<'a>(live: &'a Live, field: &str, name: &str, key: &str) -> Result<&'a [u8]> {
    let of = |secret: &'a Secret| secret.data.as_ref()?.get(key).map(|value| value.0.as_slice());
    let value = live.secrets.get(name).and_then(of);
    value.ok_or_else(|| Error::SecretMissing { field: field.to_owned(), name: name.to_owned(), key: key.to_owned() })
}

fn invalid(name: &str, key: &str, message: String) -> Error {
    Error::SecretInvalid { name: name.to_owned(), key: key.to_owned(), message }
}
