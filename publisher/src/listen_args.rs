//! The settings of a program's listener besides its address: TLS, and where the metrics are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sluice_service::server_tls::{CERT, CLIENT_CA, KEY, ServerTls, ServerTlsFiles};

/// TLS of the listener, and the address of the metrics.
#[derive(Debug, Clone, Default, Args)]
pub struct ListenArgs {
    /// File with the certificate of this server, in PEM, and those of intermediate CAs; clients then use https://
    #[arg(long, env = "SLUICE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// File with the private key of the certificate of this server, in PEM
    #[arg(long, env = "SLUICE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// File with certificates of CAs, in PEM; each client must then have a certificate of one of them
    #[arg(long, env = "SLUICE_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// The address of /metrics, /healthz and /readyz alone, without TLS; --listen then serves no /metrics
    #[arg(long, env = "SLUICE_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
}

impl ListenArgs {
    /// Checks them, and reads the files.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self) -> Result<(), String> {
        self.tls().map(|_| ())
    }

    /// Reads the files, and returns the TLS of the listener; `None` when it speaks plain HTTP.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn tls(&self) -> Result<Option<Arc<ServerTls>>, String> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                let files =
                    ServerTlsFiles { cert: cert.clone(), key: key.clone(), client_ca: self.tls_client_ca.clone() };
                ServerTls::load(files).map(Some)
            }
            (Some(_), None) => Err(format!("{CERT} needs {KEY}")),
            (None, Some(_)) => Err(format!("{KEY} needs {CERT}")),
            (None, None) if self.tls_client_ca.is_some() => Err(format!("{CLIENT_CA} needs {CERT} and {KEY}")),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_tests::certificates::{Authority, HOST};

    use super::*;

    #[test]
    fn files_that_cannot_work_are_refused_by_the_name_of_the_option() {
        let (ca, nothing) = (Authority::new(), PathBuf::from("/no/such/file"));
        let (ours, other) = (ca.issue(HOST), ca.issue("other.example"));
        let given = |cert: Option<&PathBuf>, key: Option<&PathBuf>, client_ca: Option<&PathBuf>| {
            let [tls_cert, tls_key, tls_client_ca] = [cert, key, client_ca].map(Option::<&PathBuf>::cloned);
            ListenArgs { tls_cert, tls_key, tls_client_ca, metrics_listen: None }.check()
        };
        for (result, expected) in [
            (given(Some(&ours.cert), None, None), "--tls-cert needs --tls-key"),
            (given(None, Some(&ours.key), None), "--tls-key needs --tls-cert"),
            (given(None, None, Some(&ours.cert)), "--tls-client-ca needs --tls-cert"),
            (given(Some(&nothing), Some(&ours.key), None), "--tls-cert: /no/such/file cannot be read"),
            (given(Some(&ours.key), Some(&ours.key), None), "holds no certificate in PEM"),
            (given(Some(&ours.cert), Some(&ours.cert), None), "holds no private key in PEM"),
            (given(Some(&ours.cert), Some(&other.key), None), "is not the key of --tls-cert"),
            (given(Some(&ours.cert), Some(&ours.key), Some(&nothing)), "--tls-client-ca: /no/such/file"),
            (given(Some(&ours.cert), Some(&ours.key), Some(&ours.key)), "--tls-client-ca:"),
        ] {
            let error = result.expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let ca = ca.ca().to_owned();
        assert_eq!(given(Some(&ours.cert), Some(&ours.key), Some(&ca)), Ok(()));
        assert_eq!(given(None, None, None), Ok(()));
    }
}
