//! The settings of TLS of our clients of HTTP: of `simulate` and `healthcheck`, and of queries to the aggregators.

use std::path::PathBuf;

use clap::Args;
use sluice_service::client_tls::{ClientFiles, ClientOptions, ClientTls};
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
    pub fn check(&self, url: &str) -> Result<(), String> {
        self.tls().check(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_work_are_refused_by_the_name_of_the_option() {
        let file = Some(PathBuf::from("/no/such/file"));
        let query = QueryTlsArgs { query_ca: file.clone(), ..QueryTlsArgs::default() };
        for (result, expected) in [
            (query.check("http://a"), "--query-ca: --query-url must begin with https://"),
            (query.check("https://a"), "--query-ca: /no/such/file cannot be read"),
            (
                QueryTlsArgs { query_cert: file.clone(), ..QueryTlsArgs::default() }.check("https://a"),
                "--query-cert needs --query-key",
            ),
            (HttpsArgs { ca: file.clone(), ..HttpsArgs::default() }.check("http://a"), "--ca: --url must begin with"),
            (HttpsArgs { key: file, ..HttpsArgs::default() }.check("https://a"), "--key needs --cert"),
        ] {
            let error = result.expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(QueryTlsArgs::default().check("http://a"), Ok(()));
        assert_eq!(HttpsArgs::default().check("https://a"), Ok(()));
    }
}
