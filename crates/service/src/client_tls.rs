//! TLS of our clients of HTTP: whom they trust, and their own certificate.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

use crate::tls::{self, Names};

/// The options of a client, as messages name them.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// The URL, and what is said of errors.
    pub names: Names,
    /// The file with the certificate of the client.
    pub cert: &'static str,
    /// The file with its key.
    pub key: &'static str,
}

/// The files of a client's TLS, in PEM.
#[derive(Debug, Clone, Default)]
pub struct ClientFiles {
    /// Certificates of CAs that are trusted, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate of the client, if the server demands one.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// The TLS of a client.
#[derive(Debug)]
pub struct ClientTls {
    options: ClientOptions,
    files: ClientFiles,
    system: OnceLock<Arc<RootCertStore>>,
}

impl ClientTls {
    /// Returns the TLS of a client with these files, which are not read yet.
    pub fn new(options: ClientOptions, files: ClientFiles) -> Self {
        Self { options, files, system: OnceLock::new() }
    }

    /// Checks the files, and that they have a use: only a URL with `https` has one for them.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self, url: &str) -> Result<(), String> {
        if url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
            return self.config().map(|_| ());
        }
        let ClientOptions { names, cert, key } = self.options;
        let given = [(names.ca, &self.files.ca), (cert, &self.files.cert), (key, &self.files.key)];
        match given.iter().find(|(_, file)| file.is_some()) {
            Some((option, _)) => {
                Err(format!("{option}: {} must begin with https://, or the file has no use", names.url))
            }
            None => Ok(()),
        }
    }

    /// Reads the files, so that they can be replaced while a program runs. The CAs of the system are read once.
    ///
    /// # Errors
    /// The name of the option and of the file, and what is wrong.
    pub fn config(&self) -> Result<ClientConfig, String> {
        let ClientOptions { names, cert, key } = self.options;
        let roots = match &self.files.ca {
            Some(file) => Arc::new(tls::roots_in((names.ca, file), &tls::read(names.ca, file)?)?),
            None => self.system.get_or_init(system_roots).clone(),
        };
        let identity = match (&self.files.cert, &self.files.key) {
            (Some(cert_file), Some(key_file)) => {
                let chain = tls::certificates_in((cert, cert_file), &tls::read(cert, cert_file)?)?;
                Some((chain, tls::key_in((key, key_file), &tls::read(key, key_file)?)?, cert_file, key_file))
            }
            (Some(_), None) => return Err(format!("{cert} needs {key}")),
            (None, Some(_)) => return Err(format!("{key} needs {cert}")),
            (None, None) => None,
        };
        let builder = builder()?.with_root_certificates(roots);
        let Some((chain, private, cert_file, key_file)) = identity else { return Ok(builder.with_no_client_auth()) };
        let config = builder.with_client_auth_cert(chain, private);
        config.map_err(|error| tls::mismatch((cert, cert_file), (key, key_file), &error))
    }

    /// Returns in words why a request failed, if TLS is the reason.
    pub fn explain(&self, error: &(dyn std::error::Error + 'static)) -> Option<String> {
        self.options.names.explain(error)
    }
}

/// How long a client keeps a connection on which nothing happens. It is shorter than the time after which our servers
/// close such a connection ([`crate::deadlines::Deadlines`]), so that no request is sent on one that is being closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Returns the builder of a client of HTTP with this TLS. Proxies of the environment are not used.
pub fn client(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).pool_idle_timeout(IDLE_TIMEOUT)
}

/// Returns the builder of a client for URLs with `http` alone: it trusts no certificate, and looks for none.
///
/// # Errors
/// When the provider of cryptography has no ciphers, which does not happen.
pub fn plain_client() -> Result<reqwest::ClientBuilder, String> {
    Ok(client(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth()))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())
}

fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // Systems have some that rustls does not accept.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}
