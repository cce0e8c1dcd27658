//! The `healthcheck` subcommand: for images that have neither a shell nor curl.

use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::header::HeaderMap;

use crate::client_tls::{self, ClientTls};

const DEADLINE: Duration = Duration::from_secs(3);

/// Asks the server at `url` (such as `http://127.0.0.1:8080`) whether it is ready, with these headers, such as a token
/// for a proxy in front of it.
///
/// # Errors
/// When the server is not ready or does not respond within three seconds.
pub async fn run(url: &str, tls: &ClientTls, headers: HeaderMap) -> anyhow::Result<()> {
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    let config = tls.config().map_err(|error| anyhow!(error))?;
    let client = client_tls::client(config).default_headers(headers).timeout(DEADLINE).build()?;
    let answer = client.get(&url).send().await.map_err(|error| match tls.explain(&error) {
        Some(reason) => anyhow!(reason),
        None => error.into(),
    });
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = answer.text().await.unwrap_or_default();
    anyhow::bail!("{url} returned {status}: {}", body.trim());
}
