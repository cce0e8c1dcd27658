//! The settings of authentication, which every server of ours has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sluice_service::guard::SharedGuard;

use crate::guard::Guard;
use crate::reload::{Reloaded, Source};
use crate::token_file::TokenFile;

/// Who may use a server.
#[derive(Debug, Clone, Default, Args)]
pub struct AuthArgs {
    /// File with the tokens that are accepted, and what each is for. It is read again when it changes. Without it
    /// everybody who reaches the server may do everything
    #[arg(long, env = "SLUICE_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
}

impl AuthArgs {
    /// Reads the files.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self) -> Result<(), String> {
        self.tokens.clone().map_or(Ok(()), |file| Reloaded::open(source(file), TokenFile::parse).map(|_| ()))
    }

    /// Returns the guard of a server that listens on an address, and reads the files again from now on when they
    /// change. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Those of [`AuthArgs::check`].
    pub fn guard(&self, listen: SocketAddr) -> anyhow::Result<SharedGuard> {
        let Some(file) = self.tokens.clone() else {
            if !listen.ip().to_canonical().is_loopback() {
                tracing::warn!(
                    address = %listen,
                    "there is no authentication (--tokens): whoever reaches the address can publish, read and replay"
                );
            }
            return Ok(None);
        };
        let tokens = Reloaded::follow(source(file), TokenFile::parse).map_err(anyhow::Error::msg)?;
        tracing::info!(tokens = tokens.current().len(), "requests need a token");
        Ok(Some(Arc::new(Guard::new(tokens))))
    }
}

fn source(file: PathBuf) -> Source {
    Source { setting: "--tokens", label: "tokens", file }
}
