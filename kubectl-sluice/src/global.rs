//! The options of all commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sluice_auth::ClientTokenArgs;
use sluice_service::client_tls::ClientFiles;
use sluice_service::units::duration_within;

/// The options of all commands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Path of the kubeconfig [default: KUBECONFIG, or ~/.kube/config; within a pod its service account]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
    /// Cluster of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub cluster: Option<String>,
    /// User of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub user: Option<String>,
    /// Namespace of the resource [default: that of the context]
    #[arg(long, short, global = true, value_name = "NAMESPACE", help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// User to impersonate
    #[arg(long = "as", global = true, value_name = "USER", help_heading = "Cluster")]
    pub impersonate: Option<String>,
    /// Group to impersonate; can be repeated
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "impersonate", help_heading = "Cluster")]
    pub impersonate_groups: Vec<String>,
    /// Longest wait for one answer of the API server or of the programs
    #[arg(long, global = true, default_value = "1m", value_parser = duration_within("1s", "1h"), value_name = "TIME",
        help_heading = "Cluster")]
    pub request_timeout: Duration,
    /// URL at which the programs are reached, such as that of an Ingress, instead of through a pod
    #[arg(long, global = true, value_name = "URL", help_heading = "Programs")]
    pub url: Option<url::Url>,
    /// File with the CAs that are trusted with TLS [default: that of the resource's Secret; with --url those of the system]
    #[arg(long, global = true, env = "SLUICE_CA", value_name = "FILE", help_heading = "Programs")]
    pub ca: Option<PathBuf>,
    /// File with the certificate of the client, if the programs demand one
    #[arg(long, global = true, env = "SLUICE_CERT", value_name = "FILE", help_heading = "Programs")]
    pub cert: Option<PathBuf>,
    /// File with its private key
    #[arg(long, global = true, env = "SLUICE_KEY", value_name = "FILE", help_heading = "Programs")]
    pub key: Option<PathBuf>,
    /// Token for programs that need one
    #[arg(
        long,
        global = true,
        env = "SLUICE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Programs"
    )]
    pub token: Option<String>,
    /// File with the token, instead of --token
    #[arg(
        long,
        global = true,
        env = "SLUICE_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "token",
        help_heading = "Programs"
    )]
    pub token_file: Option<PathBuf>,
}

impl Global {
    /// Returns the files of TLS.
    pub(crate) fn files(&self) -> ClientFiles {
        ClientFiles { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() }
    }

    /// Returns the token, as the other clients take it.
    pub(crate) fn token(&self) -> ClientTokenArgs {
        ClientTokenArgs { token: self.token.clone(), token_file: self.token_file.clone() }
    }
}

/// The form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The option of commands whose output has a form for programs.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Output {
    /// Form of the output
    #[arg(long = "output", short = 'o', default_value = "text", value_name = "text|json", hide_possible_values = true)]
    pub form: Form,
}
