//! Checks the endpoint of spans and the Secrets that its settings name.

use sluice_service::encryption::is_loopback;

use super::plan::{HeadersPlan, TracingPlan};
use crate::controller::build::names::short_hash;
use crate::controller::cidr::check_cidrs;
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::server_url;
use crate::controller::tls::check;
use crate::crd::{EventAggregatorSpec, HeadersSecret};

/// The field of the URL, in messages.
const ENDPOINT: &str = "spec.tracing.endpoint";

/// Returns the plan, if spans are sent anywhere. What the schema refuses is checked here too as far as a pod would not start
/// with it, because the definition that is installed can be of another version.
///
/// # Errors
/// [`Error::Invalid`], and [`Error::SecretMissing`] or [`Error::SecretInvalid`] for a Secret that cannot be used.
pub fn validate(spec: &EventAggregatorSpec, live: &Live) -> Result<Option<Box<TracingPlan>>> {
    let Some(tracing) = &spec.tracing else { return Ok(None) };
    let is_https = tracing.endpoint.starts_with("https://");
    let default = if is_https { 443 } else { 80 };
    let ports =
        server_url::ports(tracing.endpoint.as_bytes(), &["http", "https"], default, tracing.network_policy_port);
    // Of several hosts only the first one would be asked.
    let Some(&[port]) = ports.as_deref().filter(|_| !tracing.endpoint.contains(',')) else {
        return Err(Error::invalid(ENDPOINT, "must be a URL of the form http://HOST:PORT or https://HOST:PORT"));
    };
    if spec.tls.enabled && !is_https && !is_in_the_pod(&tracing.endpoint) {
        return Err(Error::invalid(ENDPOINT, "must begin with https://, because spec.tls.enabled is true"));
    }
    if !tracing.ratio.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio)) {
        return Err(Error::invalid("spec.tracing.ratio", "must be a decimal from 0 to 1, such as 0.01"));
    }
    check_cidrs("spec.tracing.cidrs", &tracing.cidrs)?;
    check::external(live, "spec.tracing", tracing.ca_secret.as_ref(), tracing.cert_secret.as_ref())?;
    Ok(Some(Box::new(TracingPlan {
        endpoint: tracing.endpoint.clone(),
        protocol: tracing.protocol,
        ratio: tracing.ratio.clone(),
        traces_per_second: tracing.traces_per_second,
        headers: tracing.headers_secret.as_ref().map(|secret| headers(secret, live)).transpose()?,
        ca: tracing.ca_secret.as_ref().map(|secret| (secret.name.clone(), secret.key.clone())),
        cert: tracing.cert_secret.as_ref().map(|secret| secret.name.clone()),
        port,
        cidrs: tracing.cidrs.clone(),
    })))
}

/// Whether the host of a URL is a container of the same pod, to which the programs also connect without TLS.
fn is_in_the_pod(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    is_loopback(host)
}

fn headers(secret: &HeadersSecret, live: &Live) -> Result<HeadersPlan> {
    let (name, key) = (secret.name.clone(), secret.key.clone());
    let data = live.secrets.get(&name).and_then(|secret| secret.data.as_ref()?.get(&key));
    let Some(data) = data else {
        return Err(Error::SecretMissing { field: "spec.tracing.headersSecret".to_owned(), name, key });
    };
    match wrong_header(&data.0) {
        None => Ok(HeadersPlan { secret: name, key, checksum: short_hash(&data.0) }),
        Some(message) => Err(Error::SecretInvalid { name, key, message }),
    }
}

/// Returns what is wrong with a list of headers, without their values. The library that reads it would leave out what it
/// cannot use, and the endpoint would then refuse spans without a word about the reason.
fn wrong_header(list: &[u8]) -> Option<String> {
    let Ok(list) = std::str::from_utf8(list) else {
        return Some("must be text of the form NAME=VALUE,NAME=VALUE".to_owned());
    };
    for (index, header) in list.trim().split(',').enumerate() {
        let number = index + 1;
        let Some((name, value)) = header.split_once('=') else {
            return Some(format!("must be of the form NAME=VALUE,NAME=VALUE, but item {number} has no ="));
        };
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.trim().is_empty() || !name.trim().bytes().all(is_token) {
            return Some(format!("has no valid name of a header in item {number}"));
        }
        let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if value.trim().is_empty() || !value.trim().bytes().all(is_visible) {
            return Some(format!("has no valid value of a header in item {number}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{is_in_the_pod, wrong_header};

    #[test]
    fn only_the_hosts_of_the_pod_itself_need_no_tls() {
        for url in
            ["http://localhost", "http://localhost:4318/x", "http://127.0.0.1:1", "http://[::1]:1", "http://[::1]"]
        {
            assert!(is_in_the_pod(url), "{url}");
        }
        for url in ["http://collector", "http://localhost.example:1", "http://10.0.0.1", "http://[fd00::1]:1", "http:"]
        {
            assert!(!is_in_the_pod(url), "{url}");
        }
    }

    #[test]
    fn headers_are_names_and_values() {
        for list in ["authorization=Bearer%20x", "x-token=a=b,x-scope=c\n", "a=b, c = d"] {
            assert_eq!(wrong_header(list.as_bytes()), None, "{list:?}");
        }
        for (list, words) in [
            ("", "item 1 has no ="),
            ("a=b,", "item 2 has no ="),
            ("authorization: Bearer secret", "item 1 has no ="),
            ("a=b,=secret", "name of a header in item 2"),
            ("x y=secret", "name of a header in item 1"),
            ("a=", "value of a header in item 1"),
            ("a=sec\nret", "value of a header in item 1"),
        ] {
            let message = wrong_header(list.as_bytes()).unwrap_or_default();
            assert!(message.contains(words) && !message.contains("secret"), "{list:?}: {message:?}");
        }
        assert!(wrong_header(b"a=\xff").is_some());
    }
}
