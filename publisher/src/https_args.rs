//! The settings of TLS of our clients of HTTP: of `simulate` and `healthcheck`, and of queries to the aggregators.

use std::path::PathBuf;

use axum::http::Uri;
use clap::Args;
use sluice_service::client_tls::{ClientFiles, ClientOptions, ClientTls};
use sluice_service::encryption::{Transport, is_loopback};
use sluice_service::tls::Names;

const SERVER: ClientOptions = ClientOptions {
    names: Names { server: "the server", url: "--url", ca: "--ca", certificate: "--cert and --key" },
    cert: "--cert",
    key: "--key",
};
const AGGREGATORS: ClientOptions = ClientOptions {
    names: Names {
        server: "the aggregator",
        url: "--query-url",
        ca: "--query-ca",
        certificate: "--query-cert and --query-key",
    },
    cert: "--query-cert",
    key: "--query-key",
};

/// The files of TLS to the server at `--url`.
#[derive(Debug, Clone, Default, Args)]
pub struct HttpsArgs {
    /// File with certificates of CAs, in PEM, that are trusted instead of those of the system; for https:// URLs
    #[arg(long, env = "SLUICE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File with the certificate of this client, in PEM, if the server demands one
    #[arg(long, env = "SLUICE_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// File with the private key of the certificate of this client, in PEM
    #[arg(long, env = "SLUICE_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
}

impl HttpsArgs {
    /// Returns the TLS of the client.
    pub fn tls(&self) -> ClientTls {
        let files = ClientFiles { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() };
        ClientTls::new(SERVER, files)
    }

    /// Checks them together with the URL, and reads the files.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self, url: &str) -> Result<(), String> {
        self.tls().check(url)
    }
}

/// The files of TLS to the aggregators.
#[derive(Debug, Clone, Default, Args)]
pub struct QueryTlsArgs {
    /// File with certificates of CAs, in PEM, that are trusted instead of those of the system; for an https:// query URL
    #[arg(long, env = "SLUICE_QUERY_CA", value_name = "FILE")]
    pub query_ca: Option<PathBuf>,
    /// File with the certificate of this client, in PEM, if the aggregators demand one
    #[arg(long, env = "SLUICE_QUERY_CERT", value_name = "FILE")]
    pub query_cert: Option<PathBuf>,
    /// File with the private key of the certificate of this client, in PEM
    #[arg(long, env = "SLUICE_QUERY_KEY", value_name = "FILE")]
    pub query_key: Option<PathBuf>,
}

impl QueryTlsArgs {
    /// Returns the TLS of the client.
    pub fn tls(&self) -> ClientTls {
        let Self { query_ca: ca, query_cert: cert, query_key: key } = self.clone();
        ClientTls::new(AGGREGATORS, ClientFiles { ca, cert, key })
    }

    /// Checks them together with the URL, and reads the files.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self, url: Option<&Uri>, require_tls: bool) -> Result<(), String> {
        self.tls().check(&url.map(Uri::to_string).unwrap_or_default())?;
        match url.map(transport) {
            Some(Transport::Plain) if require_tls => Err(
                "--query-url: must begin with https://, because --require-tls demands TLS and the host is another one"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

/// Returns how what is sent to a URL is protected.
pub(crate) fn transport(url: &Uri) -> Transport {
    Transport::new(url.scheme_str() == Some("https"), url.host().is_some_and(is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_work_are_refused_by_the_name_of_the_option() {
        let file = Some(PathBuf::from("/no/such/file"));
        let query = QueryTlsArgs { query_ca: file.clone(), ..QueryTlsArgs::default() };
        let none = QueryTlsArgs::default();
        let checked = |args: &QueryTlsArgs, url: &'static str| args.check(Some(&Uri::from_static(url)), false);
        for (result, expected) in [
            (checked(&query, "http://a"), "--query-ca: --query-url must begin with https://"),
            (query.check(None, false), "--query-ca: --query-url must begin with https://"),
            (checked(&query, "https://a"), "--query-ca: /no/such/file cannot be read"),
            (
                checked(&QueryTlsArgs { query_cert: file.clone(), ..QueryTlsArgs::default() }, "https://a"),
                "--query-cert needs --query-key",
            ),
            (HttpsArgs { ca: file.clone(), ..HttpsArgs::default() }.check("http://a"), "--ca: --url must begin with"),
            (HttpsArgs { key: file, ..HttpsArgs::default() }.check("https://a"), "--key needs --cert"),
        ] {
            let error = result.expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(checked(&none, "http://a"), Ok(()));
        assert_eq!(HttpsArgs::default().check("https://a"), Ok(()));
    }

    #[test]
    fn required_tls_refuses_aggregators_on_another_host_without_it() {
        for (url, accepted) in [
            ("http://aggregator:8081", false),
            ("http://10.0.0.1", false),
            ("http://127.0.0.1:8081", true),
            ("http://[::1]:8081/prefix", true),
            ("http://localhost", true),
            ("https://aggregator", true),
        ] {
            let url = Uri::from_static(url);
            let refused = QueryTlsArgs::default().check(Some(&url), true).err();
            assert_eq!(refused.is_none(), accepted, "{url}");
            assert!(
                refused.is_none_or(|reason| reason.starts_with("--query-url: ") && reason.contains("--require-tls"))
            );
            assert_eq!(QueryTlsArgs::default().check(Some(&url), false), Ok(()), "{url}");
        }
        assert_eq!(QueryTlsArgs::default().check(None, true), Ok(()));
    }
}
