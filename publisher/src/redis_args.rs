//! The settings of TLS to Redis, which every program with a URL of Redis has.

use std::path::PathBuf;

use clap::Args;
use sluice_log::redis::RedisTls;

/// The files of TLS to Redis.
#[derive(Debug, Clone, Default, Args)]
pub struct RedisTlsArgs {
    /// File with certificates of CAs, in PEM, that are trusted instead of those of the system; for rediss:// URLs
    #[arg(long, env = "SLUICE_REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,
    /// File with the certificate of this client, in PEM, if Redis demands one
    #[arg(long, env = "SLUICE_REDIS_CERT", value_name = "FILE")]
    pub redis_cert: Option<PathBuf>,
    /// File with the private key of the certificate of this client, in PEM
    #[arg(long, env = "SLUICE_REDIS_KEY", value_name = "FILE")]
    pub redis_key: Option<PathBuf>,
}

impl RedisTlsArgs {
    /// Returns the files as the log takes them.
    pub fn files(&self) -> RedisTls {
        RedisTls { ca: self.redis_ca.clone(), cert: self.redis_cert.clone(), key: self.redis_key.clone() }
    }

    /// Checks them together with the URL, and reads the files.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self, url: &str, require_tls: bool) -> Result<(), String> {
        sluice_log::redis::check_connection(url, &self.files(), require_tls)
    }
}
