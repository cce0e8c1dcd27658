//! TLS to the publishers of a resource with `spec.tls`: the CA that is trusted, and the name that their certificate must
//! have. The connection goes through the API server to `localhost` of a pod, so the name is that of the Service.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use sluice_operator::controller::build::names::Component;
use sluice_service::client_tls::{ClientFiles, ClientOptions, ClientTls};
use sluice_service::tls::Names as TlsNames;

use crate::context::Context;
use crate::link::Tls;
use crate::resource::Resource;

/// The options of the command line, as messages name them.
pub(crate) const OPTIONS: ClientOptions = ClientOptions {
    names: TlsNames { server: "the publisher", url: "--url", ca: "--ca", certificate: "--cert" },
    cert: "--cert",
    key: "--key",
};

/// The key of a Secret whose value is the CA.
const CA: &str = "ca.crt";

/// Returns the TLS of a resource; `None` if it has none.
///
/// # Errors
/// If the Secret with the CA cannot be read, or a file is given that has no use.
pub(crate) async fn of_resource(context: &Context, name: &str) -> anyhow::Result<Option<Tls>> {
    let resource = Resource::read(context, name).await?;
    let files = context.global.files();
    if !resource.flag("/spec/tls/enabled") {
        unused(&files, "spec.tls.enabled must be set")?;
        return Ok(None);
    }
    let own = resource.text("/spec/tls/secrets/publisher");
    let trusted = if files.ca.is_some() { None } else { authority(context, name, own).await? };
    let server = server_name(context, &resource, own.is_some());
    tls(files, trusted.as_deref(), &server).map(Some)
}

/// Returns the TLS to a host.
///
/// # Errors
/// If a file cannot be used.
pub(crate) fn of_host(files: ClientFiles, host: &str) -> anyhow::Result<Tls> {
    tls(files, None, host)
}

/// Refuses files of TLS where there is none.
///
/// # Errors
/// The option with a file, and the reason.
pub(crate) fn unused(files: &ClientFiles, reason: &str) -> anyhow::Result<()> {
    let given = [(OPTIONS.names.ca, &files.ca), (OPTIONS.cert, &files.cert), (OPTIONS.key, &files.key)];
    match given.iter().find(|(_, file)| file.is_some()) {
        Some((option, _)) => bail!("{option}: {reason}, or the file has no use"),
        None => Ok(()),
    }
}

/// `trusted` are the CAs that are trusted instead of those of the file, or of the system.
fn tls(files: ClientFiles, trusted: Option<&[u8]>, server: &str) -> anyhow::Result<Tls> {
    let name = ServerName::try_from(server.to_owned()).with_context(|| format!("{server} is no name of a server"))?;
    let config = match trusted {
        Some(pem) if files.cert.is_none() && files.key.is_none() => trusting(pem)?,
        Some(_) => bail!("--cert: give the CA too, with --ca"),
        None => ClientTls::new(OPTIONS, files).config().map_err(anyhow::Error::msg)?,
    };
    Ok(Tls { config: Arc::new(config), name })
}

/// Returns the name in the certificate. One that the operator issues has that of the Service; one of the user has the
/// further names instead, if there are some.
fn server_name(context: &Context, resource: &Resource, is_own: bool) -> String {
    let names = context.names(&resource.name());
    let further = resource.at("/spec/tls/publisherNames").and_then(Value::as_array).into_iter().flatten();
    let mut further = further.filter_map(Value::as_str).filter(|_| is_own);
    match further.next() {
        // A pattern is a name of the certificate, and not one of a server.
        Some(name) => name.replacen('*', "publisher", 1),
        None => names.host(&names.of(Component::Publisher)),
    }
}

/// Returns the CA of the publishers' certificate, if its Secret has one.
async fn authority(context: &Context, name: &str, own: Option<&str>) -> anyhow::Result<Option<Vec<u8>>> {
    let issued = format!("{}-tls", context.names(name).of(Component::Publisher));
    let secret = own.unwrap_or(&issued);
    let about = format!("cannot read Secret {secret} with the CA (--ca gives the CA instead)");
    let api = context.api::<Secret>()?;
    let found = context.answer(&about, api.get(secret)).await?;
    let ca = found.data.and_then(|mut data| data.remove(CA)).map(|value| value.0).filter(|ca| !ca.is_empty());
    ensure!(own.is_some() || ca.is_some(), "Secret {secret} has no {CA}: the operator has not issued it yet");
    Ok(ca)
}

fn trusting(pem: &[u8]) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.context("the CA of the Secret is not PEM")?)?;
    }
    ensure!(!roots.is_empty(), "the CA of the Secret holds no certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12])?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
