//! The `healthcheck` subcommand: for images that have neither a shell nor curl.

use std::time::Duration;

use anyhow::Context;
use reqwest::header::HeaderMap;

const DEADLINE: Duration = Duration::from_secs(3);

/// Asks the server at `url` (such as `http://127.0.0.1:8080`) whether it is ready.
///
/// # Errors
/// When the server is not ready or does not respond within three seconds.
pub async fn run(url: &str) -> anyhow::Result<()> {
    run_with_headers(url, HeaderMap::new()).await
}

/// Asks the server whether it is ready, with these headers, such as a token for a proxy in front of it.
///
/// # Errors
/// Those of [`run`].
pub async fn run_with_headers(url: &str, headers: HeaderMap) -> anyhow::Result<()> {
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    let client = reqwest::Client::builder().no_proxy().default_headers(headers).timeout(DEADLINE).build()?;
    let answer = client.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = answer.text().await.unwrap_or_default();
    anyhow::bail!("{url} returned {status}: {}", body.trim());
}
