//! The Secrets with certificates: creates those that are missing, and renews those that are due.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;

use super::check;
use super::plan::TlsPlan;
use crate::certificates::renew::{self, Existing, Issued, renew};
use crate::certificates::{CA, CERT, Files, KEY, inspect};
use crate::controller::build::names::Component;
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::owned_secret::{self, Wanted};
use crate::controller::plan::Plan;
use crate::crd::CertificateStatus;
use crate::trust::Trusted;

/// The name in the status of the CA that the operator has made.
const AUTHORITY: &str = "ca";

/// The certificates of a resource, as they are in its Secrets.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// All of them.
    pub list: Vec<CertificateStatus>,
    /// The components whose certificates others renew.
    pub given: Vec<Component>,
    /// With what the operator itself connects to aggregators.
    pub aggregators: Trusted,
}

/// Creates and renews the certificates that the operator issues, and checks those of others. Without TLS it does
/// nothing: the Secrets of before stay until the resource is deleted, because pods that have not been replaced yet
/// mount them.
///
/// # Errors
/// [`Error::SecretMissing`], [`Error::SecretInvalid`] or [`Error::CertificateExpired`] for a Secret of others,
/// [`Error::NameTaken`] or [`Error::Leftover`] for one that is not ours, and [`Error::Api`].
pub async fn ensure(client: &Client, plan: &Plan, live: &Live, now: Timestamp) -> Result<Option<Certificates>> {
    let Some(tls) = &plan.tls else { return Ok(None) };
    let given = check::given(plan, live, now)?;
    let issued = issue(plan, tls, live, now)?;
    let mut list = Vec::new();
    if let Some(Issued { ca, leaves }) = &issued {
        // The CA comes first, so that what a lost CA has signed is never used.
        list.push(status(AUTHORITY, &plan.names.authority(), ca)?);
        write(client, plan, live, &plan.names.authority(), plan.names.common_labels(), ca).await?;
        for component in &tls.issued {
            let Some(files) = leaves.get(component.as_str()) else { continue };
            let name = plan.names.certificate(*component);
            list.push(status(component.as_str(), &name, files)?);
            write(client, plan, live, &name, plan.names.labels(*component), files).await?;
        }
    }
    list.extend(given.iter().map(|given| CertificateStatus {
        component: given.component.as_str().to_owned(),
        secret_name: given.secret.clone(),
        not_after: Time(given.not_after),
    }));
    list.sort_by(|a, b| a.component.cmp(&b.component));
    let given = given.into_iter().map(|given| given.component).collect();
    Ok(Some(Certificates { list, given, aggregators: aggregators(tls, live, issued.as_ref()) }))
}

/// Returns with what the operator connects to aggregators: what it has issued, or what is in the Secrets of others.
fn aggregators(tls: &TlsPlan, live: &Live, issued: Option<&Issued>) -> Trusted {
    let value = |component: Component, key: &str, of: fn(&Files) -> &String| {
        let leaf = issued.and_then(|issued| issued.leaves.get(component.as_str()));
        match leaf {
            Some(leaf) => of(leaf).clone().into_bytes(),
            None => tls.secrets.get(&component).and_then(|name| data(live, name, key)).unwrap_or_default(),
        }
    };
    Trusted {
        ca: value(Component::Aggregator, CA, |leaf| &leaf.ca),
        cert: value(Component::Client, CERT, |leaf| &leaf.cert),
        key: value(Component::Client, KEY, |leaf| &leaf.key),
    }
}

/// Returns what the Secrets should have; `None` if others issue all certificates.
fn issue(plan: &Plan, tls: &TlsPlan, live: &Live, now: Timestamp) -> Result<Option<Issued>> {
    if tls.issued.is_empty() {
        return Ok(None);
    }
    let files = |name: &str| {
        let text = |key| data(live, name, key).and_then(|bytes| String::from_utf8(bytes).ok());
        // A Secret that lost its CA has a certificate nevertheless.
        Some(Files { cert: text(CERT)?, key: text(KEY)?, ca: text(CA).unwrap_or_default() })
    };
    let names = &plan.names;
    let leaf = |component: &Component| Some((component.as_str().to_owned(), files(&names.certificate(*component))?));
    let existing = Existing { ca: files(&names.authority()), leaves: tls.issued.iter().filter_map(leaf).collect() };
    let wanted = tls.issued.iter().map(|component| renew::Wanted {
        component: component.as_str().to_owned(),
        subject: names.of(*component),
        names: tls.names(names, *component),
    });
    let wanted: Vec<_> = wanted.collect();
    let issued = renew(&names.namespace, &names.name, &existing, &wanted, now);
    issued.map(Some).map_err(|error| Error::invalid("spec.tls", format!("no certificate can be issued: {error}")))
}

fn status(component: &str, secret: &str, files: &Files) -> Result<CertificateStatus> {
    let inspected = inspect::first(files.cert.as_bytes());
    let inspected = inspected.map_err(|message| Error::invalid("spec.tls", format!("the certificate {message}")))?;
    let not_after = Time(inspected.not_after);
    Ok(CertificateStatus { component: component.to_owned(), secret_name: secret.to_owned(), not_after })
}

fn data(live: &Live, name: &str, key: &str) -> Option<Vec<u8>> {
    Some(live.secrets.get(name)?.data.as_ref()?.get(key)?.0.clone())
}

/// Writes a Secret if it differs.
async fn write(
    client: &Client,
    plan: &Plan,
    live: &Live,
    name: &str,
    labels: BTreeMap<String, String>,
    files: &Files,
) -> Result<()> {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let values = [(CERT, bytes(&files.cert)), (KEY, bytes(&files.key)), (CA, bytes(&files.ca))];
    let values = values.map(|(key, value)| (key.to_owned(), value)).into();
    owned_secret::write(client, plan, live, Wanted { name, labels, type_: "kubernetes.io/tls", values }).await
}
