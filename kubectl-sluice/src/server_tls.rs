//! TLS to the publishers of a resource with `spec.tls`: the CA that is trusted, and the name that their certificate must
//! have. The connection goes through the API server to `localhost` of a pod, so the name is that of the Service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
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
    names: TlsNames { server: "the publisher", url: "--url", ca: "--ca", certificate: "a client certificate" },
    cert: "--cert",
    key: "--key",
};

/// The key of a Secret whose value is the CA.
const CA: &str = "ca.crt";

/// Returns the TLS of a resource; `None` if it has none.
///
/// # Errors
/// If the Secret with the CA cannot be read.
pub(crate) async fn of_resource(context: &Context, name: &str, ca: Option<&Path>) -> anyhow::Result<Option<Tls>> {
    let resource = Resource::read(context, name).await?;
    if !resource.flag("/spec/tls/enabled") {
        ensure!(ca.is_none(), "--ca: it has no use, because spec.tls is not enabled");
        return Ok(None);
    }
    let own = resource.text("/spec/tls/secrets/publisher");
    let config = match ca {
        Some(file) => with_file(Some(file))?,
        None => match authority(context, name, own).await? {
            Some(pem) => trusting(&pem)?,
            // A certificate of a public CA.
            None => with_file(None)?,
        },
    };
    let server = server_name(context, &resource, own.is_some());
    let server = ServerName::try_from(server.clone()).with_context(|| format!("{server} is no name of a server"))?;
    Ok(Some(Tls { config: Arc::new(config), name: server }))
}

/// Returns the configuration that trusts the CAs in a file, or those of the system.
pub(crate) fn with_file(ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let files = ClientFiles { ca: ca.map(PathBuf::from), ..ClientFiles::default() };
    ClientTls::new(OPTIONS, files).config().map_err(anyhow::Error::msg)
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
