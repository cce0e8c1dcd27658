//! The settings of the connection to Redis, which every program with a URL of Redis has.

use std::path::PathBuf;

use clap::Args;
use sluice_log::redis::{RedisTls, SentinelLogin};

/// The files of TLS to Redis, and the login of Sentinels.
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
    /// The user of the Sentinels, if it is not the default one; for redis+sentinel:// URLs
    #[arg(long, env = "SLUICE_REDIS_SENTINEL_USER", value_name = "USER")]
    pub redis_sentinel_user: Option<String>,
    /// The password of the Sentinels, if they have one; the password in the URL is that of the servers
    #[arg(long, env = "SLUICE_REDIS_SENTINEL_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub redis_sentinel_password: Option<String>,
}

impl RedisTlsArgs {
    /// Returns the files as the log takes them.
    pub fn files(&self) -> RedisTls {
        RedisTls { ca: self.redis_ca.clone(), cert: self.redis_cert.clone(), key: self.redis_key.clone() }
    }

    /// Returns the login of the Sentinels as the log takes it.
    pub fn sentinel(&self) -> SentinelLogin {
        SentinelLogin { user: self.redis_sentinel_user.clone(), password: self.redis_sentinel_password.clone() }
    }

    /// Checks them together with the URL, and reads the files.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self, url: &str, require_tls: bool) -> Result<(), String> {
        sluice_log::redis::check_connection(url, &self.files(), &self.sentinel(), require_tls)
    }
}
